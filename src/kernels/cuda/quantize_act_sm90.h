// SPDX-License-Identifier: Apache-2.0
// quantize_act_ax_sm90: source -> permute -> rotate -> two-region quantization in one pass, bit for bit the reference.
#pragma once

#include <cuda_runtime.h>

#include "kernels/quantize_act.h"

namespace comet::cuda {

// Writes out.values in ActLayout::tiles_sm90 or fragments_sm90 (padding tokens are zero), scales, region1_factors,
// sums, and multipliers and group_sums where they are not null.
void quantize_act_ax_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, cudaStream_t stream);

constexpr int kMostRowBytes = 227 * 1024;     // of shared memory of a CTA
constexpr int kMostFewGroups = 16;            // of a CTA with a warp a group
constexpr int kMostPairChannels = 14336;      // of the normed rows of which a pass takes two
constexpr int kMostParts = 4;                 // of a row
constexpr int kMostTeamChannels = 8192;       // of the rows of one team; of several, half of it
constexpr int kMostLongTeamChannels = 14336;  // of normed rows of one team and a token a pass

// How the kernel that keeps rows in registers deals tokens to CTAs: `cluster` CTAs share a token, cta_groups groups
// each; a lane holds 16 channels of `units` groups of each of `tokens` tokens.
struct QuantizePlan {
  int tokens = 0, units = 1, cluster = 1, cta_groups = 0, ctas = 0, sms = 0;
  int parts = 1;  // that a normed row comes in (one token a pass); from 2 on its squares are summed where they come
  bool is_few = false;  // a warp a group and a cluster a token, for few normed rows
  int teams = 0;        // of a CTA, each with tokens of its own; 0: one of the other kernels
};
// tokens = 0: the row is one for the other kernel (permuted SiLU-mul, pieces of less than 16 bytes, too long).
QuantizePlan plan_quantize_act_sm90(const QuantizeActProblem& p, bool is_permuted, int sms);
// plan.is_few: normed rows, clusters of 2 to 8 (its CTAs send each other stores that only launches with clusters may
// send), a CTA for every padded token and rank, up to kMostFewGroups groups a CTA.
void launch_quantize_act_few_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, const QuantizePlan& plan,
                                  cudaStream_t stream);
// plan.teams > 0: more than kMaxGemvTokens tokens, no clusters, and what fits_teams_sm90 says.
inline bool fits_teams_sm90(const QuantizeActProblem& p, int tokens, int teams) {
  const bool is_normed = p.source == ActSource::rms_norm;
  if (teams != 1 && teams != tokens + 1) return false;
  if (!is_normed && (p.source != ActSource::bf16 || tokens * teams > 1)) return false;
  const int most = teams > 1                  ? kMostTeamChannels / 2
                   : is_normed && tokens == 1 ? kMostLongTeamChannels
                                              : kMostTeamChannels;
  return p.format.k_in <= most && p.format.k <= most;
}
void launch_quantize_act_teams_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, const QuantizePlan& plan,
                                    cudaStream_t stream);
// Shared memory of a CTA under a plan; stages: rows of a token that it holds, 1 or 2. At most kMostRowBytes.
int quantize_shared_bytes_sm90(const QuantizeActProblem& p, bool is_permuted, const QuantizePlan& plan, int stages);
void launch_quantize_act_resident_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args,
                                       const QuantizePlan& plan, cudaStream_t stream);
// The one of these three that a plan is for.
void launch_quantize_act_plan_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, const QuantizePlan& plan,
                                   cudaStream_t stream);
// Any row, without a plan.
void launch_quantize_act_ax_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, cudaStream_t stream);

}  // namespace comet::cuda
