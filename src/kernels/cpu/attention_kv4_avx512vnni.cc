// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/attention_dots_avx512vnni.h"

namespace comet::avx512vnni {

const AttentionKernel attention_kv4 = {attend_tile<Simd, IntScheme<Simd, Dots<4>>>, fold_tile<Simd>};

}  // namespace comet::avx512vnni
