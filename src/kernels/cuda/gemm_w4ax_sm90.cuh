// SPDX-License-Identifier: Apache-2.0
// gemm_w4ax_sm90: the kernel's name and its launch, for one token tile a file.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tile/gemm_sm90.cuh"

namespace comet::cuda {

template <int kTileM, int kStages, int kCtasPerSm, int kSides, int kRows>
__global__ void __launch_bounds__(gemm_threads(kTileM, kSides, kRows), kCtasPerSm)
    gemm_w4ax_sm90(const __grid_constant__ GemmKernelArgs args) {
  gemm_sm90<WeightsW4, kTileM, kStages, kSides, kRows>(args);
}

template <int kTileM, int kStages, int kCtasPerSm, int kSides = 1, int kRows = kTileRows>
void launch_gemm_w4ax(const GemmKernelArgs& args, const LaunchShape& shape) {
  constexpr int kShared = GemmShared<WeightsW4, kTileM, kStages, kSides, kRows>::kBytes;
  static_assert((kShared + 1024) * kCtasPerSm <= 228 * 1024, "CTAs do not fit an SM");
  auto* kernel = gemm_w4ax_sm90<kTileM, kStages, kCtasPerSm, kSides, kRows>;
  static const bool allowed = (allow_shared_bytes(kernel, kShared), true);
  static_cast<void>(allowed);
  launch_dependent(
      kernel, {shape.ctas, gemm_threads(kTileM, kSides, kRows), kShared, shape.stream, args.schedule.cluster}, args);
}

}  // namespace comet::cuda
