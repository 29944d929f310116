// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/attention_simd_avx2.h"
#include "kernels/cpu/rope_append_body.h"

namespace comet::avx2 {

void rope_append(const RopeAppendTokens& tokens) { RopeAppend<Simd>::run(tokens); }

}  // namespace comet::avx2
