// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_sm90.h"

#include <array>

#include "base/check.h"
#include "kernels/cuda/gemm_kernels_sm90.h"
#include "kernels/cuda/layouts_sm90.h"

namespace comet::cuda {
namespace {

const GemmTileKernel& kernel_for(const GemmTileKernel* const* kernels, size_t count, const GemmPlan& plan) {
  for (size_t i = 0; i < count; ++i)
    if (kernels[i]->tile_m == plan.tile_m && kernels[i]->sides == plan.sides && kernels[i]->rows == plan.rows)
      return *kernels[i];
  throw Error(
      fmt::format("no GEMM kernel has a tile of {} tokens, {} rows and {} sides", plan.tile_m, plan.rows, plan.sides));
}

}  // namespace

LaunchShape launch_shape(const GemmPlan& plan, cudaStream_t stream) {
  return {plan.ctas, stream, plan.is_lone, plan.is_spread};
}

GemmKernelArgs gemm_kernel_args(const GemmProblem& p, const GemmArgs& args, int unit_bytes, const GemmPlan& plan,
                                const GemmWorkspace& workspace) {
  COMET_CHECK(args.a.layout == plan.act_layout(), "activations are not in the order of the plan: {}", to_string(plan));
  COMET_CHECK(plan.tile_m > 0 || p.m <= kMaxGemvTokens, "{} tokens for a gemv", p.m);
  COMET_CHECK(args.b.n == p.n && args.b.k == p.k, "weights of {} x {} for a GEMM of {} x {}", args.b.n, args.b.k, p.n,
              p.k);
  COMET_CHECK(plan.schedule.range_groups == 0 || workspace.partials != nullptr, "split tiles need a workspace");
  GemmKernelArgs k;
  k.weights = static_cast<const uint8_t*>(args.b.data);
  k.group_bytes = static_cast<uint32_t>(packed_weight_bytes(p.n, kGroup, unit_bytes));
  k.values = args.a.values;
  k.sums = args.a.sums;
  k.scales = args.a.scales;
  k.factors = args.a.region1_factors;
  k.channel_scales = args.channel_scales;
  k.bias = args.bias;
  k.d = args.d;
  k.m = p.m, k.n = p.n, k.num_int8_groups = p.num_int8_groups;
  k.output = p.output;
  k.schedule = plan.schedule;
  const int ranks = plan.schedule.cluster, units = plan.tile_m / 16 / plan.sides;
  COMET_CHECK(ranks <= kMostRanks, "{} CTAs add up a tile", ranks);
  for (int rank = 0; rank <= ranks; ++rank) k.unit_begin[rank] = static_cast<uint8_t>(units * rank / ranks);
  k.most_units = static_cast<uint8_t>((units + ranks - 1) / ranks);
  k.partials = static_cast<int32_t*>(workspace.partials);
  k.counters = workspace.counters;
  return k;
}

void gemm_w4ax_sm90(const GemmProblem& p, const GemmArgs& args, const GemmPlan& plan, const GemmWorkspace& workspace,
                    cudaStream_t stream) {
  static constexpr std::array kernels = {
      &kGemmW4axM32, &kGemmW4axM32Sides, &kGemmW4axM64,         &kGemmW4axM64Sides, &kGemmW4axM64Rows192,
      &kGemmW4axM96, &kGemmW4axM128,     &kGemmW4axM128Rows192, &kGemmW4axM192,     &kGemmW4axM256};
  const GemmKernelArgs k = gemm_kernel_args(p, args, kUnitBytesW4, plan, workspace);
  if (plan.tile_m == 0) return launch_gemv_w4ax(k, launch_shape(plan, stream));
  kernel_for(kernels.data(), kernels.size(), plan).launch(k, launch_shape(plan, stream));
}

void gemm_w8a8_sm90(const GemmProblem& p, const GemmArgs& args, const GemmPlan& plan, const GemmWorkspace& workspace,
                    cudaStream_t stream) {
  static constexpr std::array kernels = {&kGemmW8a8M32, &kGemmW8a8M128, &kGemmW8a8M256};
  const GemmKernelArgs k = gemm_kernel_args(p, args, kUnitBytesW8, plan, workspace);
  if (plan.tile_m == 0) return launch_gemv_w8a8(k, launch_shape(plan, stream));
  kernel_for(kernels.data(), kernels.size(), plan).launch(k, launch_shape(plan, stream));
}

}  // namespace comet::cuda
