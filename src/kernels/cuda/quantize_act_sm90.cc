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

}  // namespace

QuantizePlan plan_quantize_act_sm90(const QuantizeActProblem& p, bool is_permuted, int sms) {
  const ActFormat& f = p.format;
  const int groups = f.num_groups(), size = p.source == ActSource::bf16 ? 2 : 4;
  const bool is_silu = p.source == ActSource::silu_mul, is_picked = is_permuted || p.source == ActSource::rms_norm;
  if (p.m <= 0 || f.k_in % 8 != 0 || (is_silu && is_permuted)) return {};
  if (static_cast<int64_t>(f.k) * padded_tokens(p.m) > int64_t{0xffffffff}) return {};  // offsets are 32-bit
  QuantizePlan plan;
  plan.sms = sms;
  plan.tokens = is_picked && p.source != ActSource::f32 && p.m >= 4 * sms && groups <= kMostCtaGroups &&
                        5 * f.k_in * size <= kSharedBytes - 16 * 1024
                    ? 2
                    : 1;
  plan.units = is_silu && p.m >= sms && groups > 2 * kWarpGroups ? 2 : 1;
  const int most = plan.units == 2 ? kMostWideGroups : kMostCtaGroups;
  while (plan.cluster * most < groups) plan.cluster *= 2;
  // Few tokens: more SMs a token. A normed row is summed by every CTA of its cluster, which pays for fewer.
  const bool is_normed = p.source == ActSource::rms_norm;
  while (plan.cluster < (is_normed ? 4 : 8) && (is_normed ? 6 : 2) * plan.cluster * p.m <= sms &&
         groups > plan.cluster * kWarpGroups)
    plan.cluster *= 2;
  const int step = kWarpGroups * plan.units;
  plan.cta_groups = round_up((groups + plan.cluster - 1) / plan.cluster, step);
  const int row_bytes = is_picked ? f.k_in * size + 16 : plan.cta_groups * kGroup * size;
  const int cta_bytes =
      2 * plan.tokens * row_bytes + (is_picked ? 4096 : 1024) + (p.source == ActSource::rms_norm ? f.k_in * 4 : 0);
  if (plan.cluster > 8 || cta_bytes > kMostRowBytes) return {};
  const int warps = plan.cta_groups / step + (p.source != ActSource::rms_norm ? 0 : (plan.tokens == 2 ? 1 : 4));
  const int per_sm = std::max(1, std::min(kSharedBytes / cta_bytes, (is_picked ? 20 : 28) / warps));
  const int passes = padded_tokens(p.m) / plan.tokens;
  plan.ctas = std::min(passes, std::max(1, sms * per_sm / plan.cluster)) * plan.cluster;
  return plan;
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
