// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/attention_kv16_body.h"
#include "kernels/cpu/attention_simd_avx2.h"

namespace comet::avx2 {

const AttentionKernel attention_kv16 = {attend_tile<Simd, Kv16Scheme<Simd>>, fold_tile<Simd>};

}  // namespace comet::avx2
