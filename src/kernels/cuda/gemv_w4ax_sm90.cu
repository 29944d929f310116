// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/tile/gemv_sm90.cuh"

namespace comet::cuda {
namespace {

template <int kBlocks, bool kAligned>
__global__ void __launch_bounds__(kGemvThreads, kGemvCtasPerSm)
    gemv_w4ax_sm90(const __grid_constant__ GemmKernelArgs args) {
  gemv_sm90<WeightsW4, kBlocks, kAligned>(args);
}

template <int kBlocks, bool kAligned>
void launch_blocks(const GemmKernelArgs& args, const LaunchShape& shape) {
  constexpr int kShared = GemvShared<WeightsW4, kBlocks>::kBytes;
  static_assert((kShared + 1024) * kGemvCtasPerSm <= 228 * 1024, "CTAs do not fit an SM");
  static const bool allowed = (allow_shared_bytes(gemv_w4ax_sm90<kBlocks, kAligned>, kShared), true);
  static_cast<void>(allowed);
  launch_dependent(gemv_w4ax_sm90<kBlocks, kAligned>, {shape.ctas, kGemvThreads, kShared, shape.stream}, args);
}

}  // namespace

void launch_gemv_w4ax(const GemmKernelArgs& args, const LaunchShape& shape) {
  const bool is_aligned = num_strips(args.n) % (kPair * shape.ctas) == 0;
  if (args.m <= kBlockTokens)
    is_aligned ? launch_blocks<1, true>(args, shape) : launch_blocks<1, false>(args, shape);
  else
    is_aligned ? launch_blocks<2, true>(args, shape) : launch_blocks<2, false>(args, shape);
}

}  // namespace comet::cuda
