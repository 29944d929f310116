// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm/ablation_weights.cuh"
#include "bench/gemm/gemm_ablation.h"
#include "kernels/cuda/tile/gemv_sm90.cuh"

namespace comet::cuda {
namespace {

struct OneSlotW4 : WeightsW4 {};

template <class Weights>
__global__ void __launch_bounds__(kGemvThreads<Weights, 1>, kGemvCtasPerSm)
    gemv_w4ax_ablation(const __grid_constant__ GemmKernelArgs args) {
  gemv_sm90<Weights, 1>(args);
}

}  // namespace

void launch_gemv_without_pipeline(const GemmKernelArgs& args, const GemmPlan&, const LaunchShape& shape) {
  GemvShape gemv = gemv_shape<OneSlotW4, 1>(args.n, shape);  // with as much memory, so that as many CTAs fit an SM
  gemv.slots = gemv.warps;
  launch_gemv<OneSlotW4, 1>(gemv_w4ax_ablation<OneSlotW4>, args, gemv, shape);
}
void launch_gemv_without_layout(const GemmKernelArgs& args, const GemmPlan&, const LaunchShape& shape) {
  launch_gemv<PlainW4, 1>(gemv_w4ax_ablation<PlainW4>, args, shape);
}
void launch_gemv_without_fast_conversion(const GemmKernelArgs& args, const GemmPlan&, const LaunchShape& shape) {
  launch_gemv<OneCodeW4, 1>(gemv_w4ax_ablation<OneCodeW4>, args, shape);
}

}  // namespace comet::cuda
