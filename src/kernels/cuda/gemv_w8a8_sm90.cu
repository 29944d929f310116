// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/tile/gemv_sm90.cuh"

namespace comet::cuda {
namespace {

template <int kBlocks, bool kAligned>
__global__ void __launch_bounds__(kGemvThreads, 2) gemv_w8a8_sm90(const __grid_constant__ GemmKernelArgs args) {
  gemv_sm90<WeightsW8, kBlocks, kAligned>(args);
}

template <int kBlocks, bool kAligned>
void launch_blocks(const GemmKernelArgs& args, const LaunchShape& shape) {
  constexpr int kShared = GemvShared<WeightsW8, kBlocks>::kBytes;
  static_assert((kShared + 1024) * 2 <= 228 * 1024, "half an SM");
  static const bool allowed = (allow_shared_bytes(gemv_w8a8_sm90<kBlocks, kAligned>, kShared), true);
  static_cast<void>(allowed);
  launch_dependent(gemv_w8a8_sm90<kBlocks, kAligned>, {shape.ctas, kGemvThreads, kShared, shape.stream}, args);
}

}  // namespace

void launch_gemv_w8a8(const GemmKernelArgs& args, const LaunchShape& shape) {
  if (args.m <= kBlockTokens)
    launch_blocks<1, false>(args, shape);
  else
    launch_blocks<2, false>(args, shape);
}

}  // namespace comet::cuda
