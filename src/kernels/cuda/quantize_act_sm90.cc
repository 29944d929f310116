// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/quantize_act_sm90.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/layouts_sm90.h"

namespace comet::cuda {
namespace {

constexpr int kWarpGroups = 4;
constexpr int kMostCtaGroups = 64;        // 16 warps of one group a lane
constexpr int kMostWideGroups = 112;      // 14 warps of two: two CTAs an SM, whose rows fill its shared memory
constexpr int kMostFewChannels = 8192;    // every CTA of a cluster reads all of them
constexpr int kFewGroups = 512;           // of all tokens: beyond, picking from global memory costs more than it saves
constexpr int kSharedBytes = 227 * 1024;  // of an SM

int multiprocessors() {
  static const int count = [] {
    int device = 0, sms = 0;
    COMET_CUDA_CHECK(cudaGetDevice(&device));
    COMET_CUDA_CHECK(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device));
    return sms;
  }();
  return count;
}

// A warp a group and a cluster a token, as long as all of them run at once.
QuantizePlan plan_few(const QuantizeActProblem& p, int sms) {
  const int groups = p.format.num_groups();
  QuantizePlan plan;
  if (p.source != ActSource::rms_norm || p.format.k_in > kMostFewChannels || p.m * groups > kFewGroups) return plan;
  const int cluster = p.m <= kBlockTokens && 8 * p.m <= sms ? 8 : 4, cta_groups = (groups + cluster - 1) / cluster;
  if (cta_groups > kMostFewGroups || cluster * p.m > sms) return plan;
  plan.tokens = 1, plan.cluster = cluster, plan.cta_groups = cta_groups;
  plan.ctas = padded_tokens(p.m) * cluster, plan.sms = sms, plan.is_few = true;
  return plan;
}

// Persistent CTAs of one team or several. The bounds are where timings on an H200 cross.
QuantizePlan plan_teams(const QuantizeActProblem& p, bool is_permuted, int sms) {
  const bool is_normed = p.source == ActSource::rms_norm, is_short = fits_teams_sm90(p, 1, 2);
  QuantizePlan plan;
  if ((!is_normed && !is_permuted) || p.m <= kMaxGemvTokens || !fits_teams_sm90(p, 1, 1)) return plan;
  int per_sm = 1;
  if (is_short) {  // normed rows; shorter ones leave half of a team's warps without work, so more teams
    const bool is_half = p.format.k <= kMostTeamChannels / 4;
    plan.tokens = p.m < (is_half ? 4 : 20) * sms ? 1 : 2, plan.teams = plan.tokens + 1;
  } else if (is_normed) {
    const bool is_long = !fits_teams_sm90(p, 2, 1);
    if (is_long ? p.m + 4 < sms || p.m > 10 * sms : 6 * p.m <= sms) return plan;  // clusters
    plan.tokens = is_long || p.m < 4 * sms ? 1 : 2, plan.teams = 1;
  } else {
    if (p.m <= sms || p.format.k <= kMostTeamChannels / 2) return plan;
    plan.tokens = 1, plan.teams = 1;
    per_sm = p.m > 2 * sms && p.m <= 3 * sms ? 1 : 2;  // three passes instead of two twice as long
  }
  plan.cta_groups = round_up(p.format.num_groups(), kWarpGroups);
  plan.ctas = std::min(padded_tokens(p.m), per_sm * sms), plan.sms = sms;
  return plan;
}

}  // namespace

QuantizePlan plan_quantize_act_sm90(const QuantizeActProblem& p, bool is_permuted, int sms) {
  const ActFormat& f = p.format;
  const int groups = f.num_groups();
  const bool is_silu = p.source == ActSource::silu_mul, is_picked = is_permuted || p.source == ActSource::rms_norm;
  if (p.m <= 0 || f.k_in % 8 != 0 || (is_silu && is_permuted)) return {};
  if (static_cast<int64_t>(f.k) * padded_tokens(p.m) > int64_t{0xffffffff}) return {};  // offsets are 32-bit
  const bool is_normed = p.source == ActSource::rms_norm;
  if (const QuantizePlan few = plan_few(p, sms); few.is_few) return few;
  if (const QuantizePlan teams = plan_teams(p, is_permuted, sms); teams.teams > 0) return teams;
  QuantizePlan plan;
  plan.sms = sms;
  const bool is_pair = is_normed ? f.k_in > kMostTeamChannels && f.k_in <= kMostPairChannels && f.k <= kMostPairChannels
                                 : is_picked && p.source == ActSource::bf16 && f.k_in <= 8192 && f.k <= 8192;
  plan.tokens = is_pair && p.m >= 4 * sms ? 2 : 1;
  plan.units = is_silu && p.m >= sms && groups > 2 * kWarpGroups ? 2 : 1;
  const int most = plan.units == 2 ? kMostWideGroups : kMostCtaGroups;
  while (plan.cluster * most < groups) plan.cluster *= 2;
  // Few tokens: more SMs a token. A normed row is summed by every CTA of its cluster, which pays for fewer.
  const bool is_long = is_normed && f.k_in > kMostPairChannels;
  const int most_cluster = is_normed && !is_long ? 4 : 8, share = is_normed ? 6 : 2;
  while (plan.cluster < most_cluster && share * plan.cluster * p.m <= sms && groups > plan.cluster * kWarpGroups)
    plan.cluster *= 2;
  const int step = kWarpGroups * plan.units;
  plan.cta_groups = round_up((groups + plan.cluster - 1) / plan.cluster, step);
  if (is_long) plan.parts = kMostParts;
  const int cta_bytes = quantize_shared_bytes_sm90(p, is_permuted, plan, 2);
  if (plan.cluster > 8 || cta_bytes > kMostRowBytes) return {};
  const int warps = plan.cta_groups / step + (is_normed ? (plan.tokens == 2 ? 1 : 4) : 0);
  const int per_sm = std::max(1, std::min(kSharedBytes / cta_bytes, (is_picked ? 20 : 28) / warps));
  const int passes = padded_tokens(p.m) / plan.tokens;
  plan.ctas = std::min(passes, std::max(1, sms * per_sm / plan.cluster)) * plan.cluster;
  return plan;
}

int quantize_shared_bytes_sm90(const QuantizeActProblem& p, bool is_permuted, const QuantizePlan& plan, int stages) {
  const bool is_normed = p.source == ActSource::rms_norm, is_picked = is_permuted || is_normed;
  const int size = p.source == ActSource::bf16 ? 2 : 4, step = kWarpGroups * plan.units;
  const int row_bytes = is_picked ? p.format.k_in * size + 16 : plan.cta_groups * kGroup * size;
  const int slots = (plan.cta_groups + step - 1) / step * plan.cluster;
  const int pair_channels = is_normed ? kMostPairChannels : 8192;
  return (is_normed && plan.tokens == 1 ? 1152 : 128) + stages * row_bytes +
         (plan.tokens - 1) * 2 * (pair_channels * size + 16) + 24 * plan.tokens * slots;
}

namespace {

void check_layout(const QuantizeActProblem& p, const QuantizeActArgs& args) {
  const ActLayout layout = args.out.layout;
  COMET_CHECK(layout == ActLayout::tiles_sm90 || layout == ActLayout::fragments_sm90,
              "quantize_act_ax_sm90 writes tiles_sm90 and fragments_sm90");
  COMET_CHECK(layout == ActLayout::tiles_sm90 || p.m <= kMaxGemvTokens, "{} tokens as fragments", p.m);
}

}  // namespace

void launch_quantize_act_plan_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, const QuantizePlan& plan,
                                   cudaStream_t stream) {
  check_layout(p, args);
  COMET_CHECK(plan.teams == 0 || args.out.layout == ActLayout::tiles_sm90, "teams write tiles_sm90");
  if (plan.is_few) return launch_quantize_act_few_sm90(p, args, plan, stream);
  if (plan.teams > 0) return launch_quantize_act_teams_sm90(p, args, plan, stream);
  launch_quantize_act_resident_sm90(p, args, plan, stream);
}

void quantize_act_ax_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, cudaStream_t stream) {
  if (reinterpret_cast<uintptr_t>(args.x) % 16 == 0) {
    const QuantizePlan plan = plan_quantize_act_sm90(p, args.perm != nullptr, multiprocessors());
    if (plan.tokens > 0) return launch_quantize_act_plan_sm90(p, args, plan, stream);
  }
  check_layout(p, args);
  launch_quantize_act_ax_sm90(p, args, stream);
}

}  // namespace comet::cuda
