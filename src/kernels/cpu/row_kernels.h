// SPDX-License-Identifier: Apache-2.0
// The ops that work on rows [begin, end) of a batch, one set for each ISA. POD only.
#pragma once

#include "kernels/elementwise.h"
#include "kernels/quantize_act.h"

namespace comet {

// Floats of scratch that quantize_act needs: the source row behind a zero, the permuted row, the groups' maxima.
constexpr int kRowLead = 16;
static inline size_t quantize_act_scratch_floats(const ActFormat& f) {
  const int source = f.k_in > f.k ? round_up(f.k_in, kGroup) : f.k;
  return static_cast<size_t>(kRowLead + source + f.k + f.num_groups());
}

namespace avx2 {
void quantize_act_rows(const QuantizeActProblem& p, const QuantizeActArgs& args, int64_t begin, int64_t end,
                       float* scratch);
void embed_rows(const EmbedArgs& args, int64_t begin, int64_t end);
void rms_norm_rows(const RmsNormArgs& args, int64_t begin, int64_t end);
void silu_mul_rows(const SiluMulArgs& args, int64_t begin, int64_t end);
void check_finite_rows(const CheckFiniteArgs& args, int64_t begin, int64_t end);
}  // namespace avx2
namespace avx512vnni {
void quantize_act_rows(const QuantizeActProblem& p, const QuantizeActArgs& args, int64_t begin, int64_t end,
                       float* scratch);
void embed_rows(const EmbedArgs& args, int64_t begin, int64_t end);
void rms_norm_rows(const RmsNormArgs& args, int64_t begin, int64_t end);
void silu_mul_rows(const SiluMulArgs& args, int64_t begin, int64_t end);
void check_finite_rows(const CheckFiniteArgs& args, int64_t begin, int64_t end);
}  // namespace avx512vnni

}  // namespace comet
