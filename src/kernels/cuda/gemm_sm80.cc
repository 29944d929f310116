// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_sm80.h"

#include <array>

#include "base/check.h"
#include "kernels/cuda/gemm_kernels_sm80.h"

namespace comet::cuda {
namespace {

const GemmTileKernelSm80& kernel_for(int tile_m) {
  static constexpr std::array kernels = {&kGemmW4axSm80M16, &kGemmW4axSm80M32, &kGemmW4axSm80M64, &kGemmW4axSm80M128};
  for (const GemmTileKernelSm80* k : kernels)
    if (k->tile_m == tile_m) return *k;
  throw Error(fmt::format("no GEMM kernel has a tile of {} tokens", tile_m));
}

}  // namespace

void gemm_w4ax_sm80(const GemmProblem& p, const GemmArgs& args, const GemmPlanSm80& plan,
                    const GemmWorkspaceSm80& workspace, cudaStream_t stream) {
  COMET_CHECK(args.a.layout == ActLayout::packed_sm80, "activations are not in packed_sm80 order");
  COMET_CHECK(plan.steps.groups * kGroup == p.k && plan.steps.int8_groups == p.num_int8_groups,
              "a plan for k = {}, n8 = {} runs k = {}, n8 = {}", plan.steps.groups * kGroup, plan.steps.int8_groups,
              p.k, p.num_int8_groups);
  COMET_CHECK(plan.schedule.range_groups == 0 || workspace.partials != nullptr, "split tiles need a workspace");
  GemmKernelArgsSm80 k;
  k.weights = static_cast<const uint8_t*>(args.b.data);
  k.slabs = args.a.values;
  k.multipliers = args.a.multipliers;
  k.sums = args.a.sums;
  k.scales = args.a.scales;
  k.factors = args.a.region1_factors;
  k.channel_scales = args.channel_scales;
  k.bias = args.bias;
  k.d = args.d;
  k.m = p.m, k.n = p.n;
  k.output = p.output;
  k.steps = plan.steps;
  k.schedule = plan.schedule;
  k.partials = static_cast<int4*>(workspace.partials);
  k.counters = workspace.counters;
  kernel_for(plan.tile_m).launch(k, plan.ctas, stream);
}

}  // namespace comet::cuda
