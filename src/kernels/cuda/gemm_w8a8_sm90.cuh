// SPDX-License-Identifier: Apache-2.0
// gemm_w8a8_sm90: the kernel's name and its launch, for one token tile a file.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tile/gemm_sm90.cuh"

namespace comet::cuda {

template <int kTileM, int kStages, int kCtasPerSm>
__global__ void __launch_bounds__(gemm_threads(kTileM, 1, kTileRows), kCtasPerSm)
    gemm_w8a8_sm90(const __grid_constant__ GemmKernelArgs args) {
  gemm_sm90<WeightsW8, kTileM, kStages, 1, kTileRows>(args);
}

template <int kTileM, int kStages, int kCtasPerSm>
void launch_gemm_w8a8(const GemmKernelArgs& args, const LaunchShape& shape) {
  constexpr int kShared = GemmShared<WeightsW8, kTileM, kStages, 1, kTileRows>::kBytes;
  static_assert((kShared + 1024) * kCtasPerSm <= 228 * 1024, "CTAs do not fit an SM");
  auto* kernel = gemm_w8a8_sm90<kTileM, kStages, kCtasPerSm>;
  static const bool allowed = (allow_shared_bytes(kernel, kShared), true);
  static_cast<void>(allowed);
  launch_dependent(
      kernel, {shape.ctas, gemm_threads(kTileM, 1, kTileRows), kShared, shape.stream, args.schedule.cluster}, args);
}

}  // namespace comet::cuda
