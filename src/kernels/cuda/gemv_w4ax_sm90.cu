// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/tile/gemv_sm90.cuh"

namespace comet::cuda {
namespace {

template <int kBlocks>
__global__ void __launch_bounds__(kGemvThreads, kGemvCtasPerSm)
    gemv_w4ax_sm90(const __grid_constant__ GemmKernelArgs args) {
  gemv_sm90<WeightsW4, kBlocks>(args);
}

template <int kBlocks>
void launch_blocks(const GemmKernelArgs& args, const LaunchShape& shape) {
  constexpr int kShared = GemvShared<WeightsW4, kBlocks>::kBytes;
  static_assert((kShared + 1024) * kGemvCtasPerSm <= 228 * 1024, "CTAs do not fit an SM");
  static const bool allowed = (allow_shared_bytes(gemv_w4ax_sm90<kBlocks>, kShared), true);
  static_cast<void>(allowed);
  launch_dependent(gemv_w4ax_sm90<kBlocks>, {shape.ctas, kGemvThreads, kShared, shape.stream}, args);
}

}  // namespace

void launch_gemv_w4ax(const GemmKernelArgs& args, const LaunchShape& shape) {
  if (args.m <= kBlockTokens)
    launch_blocks<1>(args, shape);
  else
    launch_blocks<2>(args, shape);
}

}  // namespace comet::cuda
