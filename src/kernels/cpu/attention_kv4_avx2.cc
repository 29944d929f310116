// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/attention_dots_avx2.h"

namespace comet::avx2 {

const AttentionKernel attention_kv4 = {attend_tile<Simd, IntScheme<Simd, Dots<4>>>, fold_tile<Simd>};

}  // namespace comet::avx2
