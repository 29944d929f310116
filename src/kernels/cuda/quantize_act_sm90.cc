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
  const int cluster = 64 * p.m <= sms ? 8 : 4, cta_groups = (groups + cluster - 1) / cluster;
  if (cta_groups > kMostFewGroups || cluster * p.m > sms) return plan;
  plan.tokens = 1, plan.cluster = cluster, plan.cta_groups = cta_groups;
  plan.ctas = padded_tokens(p.m) * cluster, plan.sms = sms, plan.is_few = true;
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
  QuantizePlan plan;
  plan.sms = sms;
  const int most_pair = is_normed ? kMostPairChannels : 8192;
  plan.tokens =
      is_picked && p.source != ActSource::f32 && p.m >= 4 * sms && f.k_in <= most_pair && groups <= most_pair / kGroup
          ? 2
          : 1;
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
  const int pair_channels = is_normed && p.format.k_in <= 4096 && plan.cta_groups <= 32 ? 4096
                            : !is_normed || p.format.k_in <= 8192                       ? 8192
                                                                                        : kMostPairChannels;
  return (is_normed && plan.tokens == 1 ? 1152 : 128) + stages * row_bytes +
         (plan.tokens - 1) * 2 * (pair_channels * size + 16) + 24 * plan.tokens * slots;
}

void quantize_act_ax_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, cudaStream_t stream) {
  COMET_CHECK(args.out.layout == ActLayout::tiles_sm90, "quantize_act_ax_sm90 writes tiles_sm90 only");
  if (reinterpret_cast<uintptr_t>(args.x) % 16 == 0) {
    const QuantizePlan plan = plan_quantize_act_sm90(p, args.perm != nullptr, multiprocessors());
    if (plan.tokens > 0) return launch_quantize_act_resident_sm90(p, args, plan, stream);
  }
  launch_quantize_act_ax_sm90(p, args, stream);
}

}  // namespace comet::cuda
