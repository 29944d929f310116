// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/quantize_act_sm90.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/layouts_sm90.h"

namespace comet::cuda {
namespace {

constexpr int kWarpGroups = 4;
constexpr int kMostCtaGroups = 64;         // 16 warps of one group a lane
constexpr int kMostWideGroups = 112;       // 14 warps of two: two CTAs an SM, whose rows fill its shared memory
constexpr int kMostUncutChannels = 16384;  // of normed rows that come in one part
constexpr int kMostFewChannels = 8192;     // every CTA of a cluster reads all of them
constexpr int kFewGroups = 512;            // of all tokens: beyond, picking from global memory costs more than it saves
constexpr int kSharedBytes = 227 * 1024;   // of an SM

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

// Persistent CTAs of teams. The bounds are where timings on an H200 cross.
QuantizePlan plan_of_teams(const QuantizeActProblem& p, int units, int teams, int ctas, int sms) {
  QuantizePlan plan;
  plan.tokens = 1, plan.units = units, plan.teams = teams;
  plan.cta_groups = round_up(p.format.num_groups(), kWarpGroups * units);
  plan.ctas = std::min(padded_tokens(p.m), ctas), plan.sms = sms;
  return plan;
}

QuantizePlan plan_teams(const QuantizeActProblem& p, bool is_permuted, int sms) {
  const bool is_normed = p.source == ActSource::rms_norm;
  if ((!is_normed && !is_permuted) || p.m <= kBlockTokens || !fits_teams_sm90(p, 1)) return {};
  if (is_normed) return plan_of_teams(p, 1, fits_teams_sm90(p, 2) ? 2 : 1, sms, sms);
  if (p.m <= sms || p.format.k <= kMostTeamChannels / 2) return {};
  const int per_sm = p.m > 2 * sms && p.m <= 3 * sms ? 1 : 2;  // three passes instead of two twice as long
  return plan_of_teams(p, 1, 1, per_sm * sms, sms);
}

QuantizePlan plan_wide(const QuantizeActProblem& p, DType gain_dtype, int sms) {
  int teams = 5;
  while (teams > 0 && !fits_wide_sm90(p, gain_dtype, teams)) --teams;
  if (teams == 0) return {};
  // Fewer tokens: clusters, or teams with more warps for a token.
  const int least = teams > 2 ? (teams == 5 ? 7 : 5) * sms : p.format.k > kMostUncutChannels ? sms / 4 - 2 : sms / 3;
  if (p.m < least) return {};
  QuantizePlan plan = plan_of_teams(p, 2, teams, sms, sms);
  plan.is_wide = true;
  return plan;
}

}  // namespace

QuantizePlan plan_quantize_act_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, int sms) {
  const ActFormat& f = p.format;
  const bool is_permuted = args.perm != nullptr, is_tiles = args.out.layout == ActLayout::tiles_sm90;
  const int groups = f.num_groups();
  const bool is_silu = p.source == ActSource::silu_mul, is_picked = is_permuted || p.source == ActSource::rms_norm;
  if (p.m <= 0 || f.k_in % 8 != 0 || (is_silu && is_permuted)) return {};
  if (static_cast<int64_t>(f.k) * padded_tokens(p.m) > int64_t{0xffffffff}) return {};  // offsets are 32-bit
  const bool is_normed = p.source == ActSource::rms_norm;
  if (is_tiles) {
    if (const QuantizePlan plan = plan_wide(p, args.gain_dtype, sms); plan.is_wide) return plan;
    if (const QuantizePlan plan = plan_teams(p, is_permuted, sms); plan.teams > 0) return plan;
  }
  if (const QuantizePlan few = plan_few(p, sms); few.is_few) return few;
  QuantizePlan plan;
  plan.sms = sms;
  const bool is_pair =
      is_picked && p.source == ActSource::bf16 && f.k_in <= kMostPairChannels && f.k <= kMostPairChannels;
  plan.tokens = is_pair && p.m >= 4 * sms ? 2 : 1;
  plan.units = is_silu && p.m >= sms && groups > 2 * kWarpGroups ? 2 : 1;
  const int most = plan.units == 2 ? kMostWideGroups : kMostCtaGroups;
  while (plan.cluster * most < groups) plan.cluster *= 2;
  // Few tokens: more SMs a token. A normed row is summed by every CTA of its cluster, which pays for fewer.
  const bool is_long = is_normed && f.k_in > kMostUncutChannels;
  const int most_cluster = is_normed && !is_long ? 4 : 8, share = is_normed ? 6 : 2;
  while (plan.cluster < most_cluster && share * plan.cluster * p.m <= sms && groups > plan.cluster * kWarpGroups)
    plan.cluster *= 2;
  const int step = kWarpGroups * plan.units;
  plan.cta_groups = round_up((groups + plan.cluster - 1) / plan.cluster, step);
  if (is_long) plan.parts = kMostParts;
  const int cta_bytes = quantize_shared_bytes_sm90(p, is_permuted, plan, 2);
  if (plan.cluster > 8 || cta_bytes > kMostRowBytes) return {};
  const int warps = plan.cta_groups / step + (is_normed ? 4 : 0);
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
  return (is_normed ? 1152 : 128) + stages * row_bytes + (plan.tokens - 1) * 2 * (kMostPairChannels * size + 16) +
         24 * plan.tokens * slots;
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
  if (plan.is_wide) return launch_quantize_act_wide_sm90(p, args, plan, stream);
  if (plan.is_few) return launch_quantize_act_few_sm90(p, args, plan, stream);
  if (plan.teams > 0) return launch_quantize_act_teams_sm90(p, args, plan, stream);
  launch_quantize_act_resident_sm90(p, args, plan, stream);
}

void quantize_act_ax_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, cudaStream_t stream) {
  if (reinterpret_cast<uintptr_t>(args.x) % 16 == 0) {
    const QuantizePlan plan = plan_quantize_act_sm90(p, args, multiprocessors());
    if (plan.tokens > 0) return launch_quantize_act_plan_sm90(p, args, plan, stream);
  }
  check_layout(p, args);
  launch_quantize_act_ax_sm90(p, args, stream);
}

}  // namespace comet::cuda
