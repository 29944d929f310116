// SPDX-License-Identifier: Apache-2.0
// quantize_act_ax_sm90: source -> permute -> rotate -> two-region quantization in one pass, bit for bit the reference.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/quantize_act.h"

namespace comet::cuda {

// Writes out.values in ActLayout::tiles_sm90 or fragments_sm90 (padding tokens are zero), scales, region1_factors,
// sums, and multipliers and group_sums where they are not null.
void quantize_act_ax_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, cudaStream_t stream);

constexpr int kMostRowBytes = 227 * 1024;  // of shared memory of a CTA
constexpr int kMostFewGroups = 16;         // of a CTA with a warp a group
constexpr int kMostPairChannels = 8192;    // of the permuted bf16 rows of which a pass takes two
constexpr int kMostParts = 4;              // of a row
constexpr int kMostTeamChannels = 8192;    // of the rows of one team; of two, half of it
constexpr int kMostWideChannels = 28672;   // of the normed rows of one team of two groups a lane

// How the kernel that keeps rows in registers deals tokens to CTAs: `cluster` CTAs share a token, cta_groups groups
// each; a lane holds 16 channels of `units` groups of each of `tokens` tokens.
struct QuantizePlan {
  int tokens = 0, units = 1, cluster = 1, cta_groups = 0, ctas = 0, sms = 0;
  int parts = 1;  // that a normed row comes in (one token a pass); from 2 on its squares are summed where they come
  bool is_few = false;   // a warp a group and a cluster a token, for few normed rows
  int teams = 0;         // of a CTA, each with tokens of its own; 0: one of the other kernels
  bool is_wide = false;  // teams of two groups a lane, for many normed rows
};
// Looks at args.perm, args.gain_dtype and args.out.layout only.
// tokens = 0: the row is one for the other kernel (permuted SiLU-mul, pieces of less than 16 bytes, too long).
QuantizePlan plan_quantize_act_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, int sms);
// plan.is_few: normed rows, clusters of 2 to 8 (its CTAs send each other stores that only launches with clusters may
// send), a CTA for every padded token and rank, up to kMostFewGroups groups a CTA.
void launch_quantize_act_few_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, const QuantizePlan& plan,
                                  cudaStream_t stream);
// plan.teams > 0, not is_wide: out.layout tiles_sm90, no clusters, and what fits_teams_sm90 says.
inline bool fits_teams_sm90(const QuantizeActProblem& p, int teams) {
  const bool is_normed = p.source == ActSource::rms_norm;
  if (!is_normed && (p.source != ActSource::bf16 || teams > 1)) return false;
  return teams <= 2 && std::max(p.format.k_in, p.format.k) * teams <= kMostTeamChannels;
}
void launch_quantize_act_teams_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, const QuantizePlan& plan,
                                    cudaStream_t stream);
// plan.is_wide: out.layout tiles_sm90, 1 to 5 teams and what fits_wide_sm90 says.
constexpr int most_wide_channels(int teams) {
  constexpr int kMost[] = {0, kMostWideChannels, 14336, 8192, 6144, 4096};  // what shared memory holds
  return teams <= 5 ? kMost[teams] : 0;
}
inline bool fits_wide_sm90(const QuantizeActProblem& p, DType gain_dtype, int teams) {
  return p.source == ActSource::rms_norm && gain_dtype != DType::f32 &&
         std::max(p.format.k_in, p.format.k) <= most_wide_channels(teams);
}
void launch_quantize_act_wide_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, const QuantizePlan& plan,
                                   cudaStream_t stream);
// Shared memory of a CTA under a plan; stages: rows of a token that it holds, 1 or 2. At most kMostRowBytes.
int quantize_shared_bytes_sm90(const QuantizeActProblem& p, bool is_permuted, const QuantizePlan& plan, int stages);
void launch_quantize_act_resident_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args,
                                       const QuantizePlan& plan, cudaStream_t stream);
// The one of these that a plan is for.
void launch_quantize_act_plan_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, const QuantizePlan& plan,
                                   cudaStream_t stream);
// Any row, without a plan.
void launch_quantize_act_ax_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, cudaStream_t stream);

}  // namespace comet::cuda
