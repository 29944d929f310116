// SPDX-License-Identifier: Apache-2.0
// quantize_act_ax_sm90: source -> permute -> rotate -> two-region quantization in one pass, bit for bit the reference.
#pragma once

#include <cuda_runtime.h>

#include "kernels/quantize_act.h"

namespace comet::cuda {

// Writes out.values in ActLayout::tiles_sm90 (padding tokens are zero), scales, region1_factors, sums, and multipliers
// and group_sums where they are not null.
void quantize_act_ax_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, cudaStream_t stream);

constexpr int kMostRowBytes = 226 * 1024;  // of shared memory of a CTA

// How the kernel that keeps rows in registers deals tokens to CTAs: `cluster` CTAs share a token, cta_groups groups
// each; a lane holds 16 channels of `units` groups of each of `tokens` tokens.
struct QuantizePlan {
  int tokens = 0, units = 1, cluster = 1, cta_groups = 0, ctas = 0, sms = 0;
};
// tokens = 0: the row is one for the other kernel (permuted SiLU-mul, pieces of less than 16 bytes, too long).
QuantizePlan plan_quantize_act_sm90(const QuantizeActProblem& p, bool is_permuted, int sms);
void launch_quantize_act_resident_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args,
                                       const QuantizePlan& plan, cudaStream_t stream);
void launch_quantize_act_ax_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, cudaStream_t stream);

}  // namespace comet::cuda
