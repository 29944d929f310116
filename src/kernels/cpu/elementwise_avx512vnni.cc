// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/elementwise_rows.h"
#include "kernels/cpu/vec_avx512vnni.h"

namespace comet::avx512vnni {

void embed_rows(const EmbedArgs& args, int64_t begin, int64_t end) { embed<Vec>(args, begin, end); }
void rms_norm_rows(const RmsNormArgs& args, int64_t begin, int64_t end) { rms_norm<Vec>(args, begin, end); }
void silu_mul_rows(const SiluMulArgs& args, int64_t begin, int64_t end) { silu_mul<Vec>(args, begin, end); }
void check_finite_rows(const CheckFiniteArgs& args, int64_t begin, int64_t end) { check_finite<Vec>(args, begin, end); }

}  // namespace comet::avx512vnni
