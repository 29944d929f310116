// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm/ablation_weights.cuh"
#include "bench/gemm/gemm_ablation.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tile/gemv_sm90.cuh"

namespace comet::cuda {
namespace {

struct OneSlotW4 : WeightsW4 {};

}  // namespace

// As much memory as the product has, so that as many CTAs fit an SM.
template <>
struct GemvShared<OneSlotW4, 1> : GemvShared<WeightsW4, 1> {
  static constexpr int kSlots = 1;
};

namespace {

template <class Weights, bool kAligned>
__global__ void __launch_bounds__(kGemvThreads, kGemvCtasPerSm)
    gemv_w4ax_ablation(const __grid_constant__ GemmKernelArgs args) {
  gemv_sm90<Weights, 1, kAligned>(args);
}

template <class Weights>
void launch_gemv(const GemmKernelArgs& args, const LaunchShape& shape) {
  constexpr int kShared = GemvShared<Weights, 1>::kBytes;
  const bool is_aligned = num_strips(args.n) % (kPair * shape.ctas) == 0;
  auto* kernel = is_aligned ? gemv_w4ax_ablation<Weights, true> : gemv_w4ax_ablation<Weights, false>;
  allow_shared_bytes(kernel, kShared);
  launch_dependent(kernel, {shape.ctas, kGemvThreads, kShared, shape.stream}, args);
}

}  // namespace

void launch_gemv_without_pipeline(const GemmKernelArgs& args, const GemmPlan&, const LaunchShape& shape) {
  launch_gemv<OneSlotW4>(args, shape);
}
void launch_gemv_without_layout(const GemmKernelArgs& args, const GemmPlan&, const LaunchShape& shape) {
  launch_gemv<PlainW4>(args, shape);
}
void launch_gemv_without_fast_conversion(const GemmKernelArgs& args, const GemmPlan&, const LaunchShape& shape) {
  launch_gemv<OneCodeW4>(args, shape);
}

}  // namespace comet::cuda
