// SPDX-License-Identifier: Apache-2.0
// gemm_w4ax_sm80: the kernel's name and its launch, for one token tile a file.
#pragma once

#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/tile/gemm_sm80.cuh"

namespace comet::cuda {

template <class Tile, int kCtasPerSm>
__global__ void __launch_bounds__(kGemmThreadsSm80, kCtasPerSm) gemm_w4ax_sm80(const GemmKernelArgsSm80 args) {
  extern __shared__ __align__(16) uint8_t shared_bytes[];
  GemmSm80<Tile>(args, ptx::shared_address(shared_bytes)).run();
}

template <class Tile, int kCtasPerSm>
void launch_gemm_w4ax_sm80(const GemmKernelArgsSm80& args, int ctas, cudaStream_t stream) {
  auto* kernel = gemm_w4ax_sm80<Tile, kCtasPerSm>;
  static const bool allowed =
      (COMET_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Tile::kBytes)), true);
  static_cast<void>(allowed);
  kernel<<<ctas, kGemmThreadsSm80, Tile::kBytes, stream>>>(args);
  COMET_CUDA_CHECK(cudaGetLastError());
}

template <class Tile, int kCtasPerSm>
constexpr GemmTileKernelSm80 tile_kernel_sm80() {
  return {Tile::kTileM, kCtasPerSm, Tile::kBytes, launch_gemm_w4ax_sm80<Tile, kCtasPerSm>};
}

}  // namespace comet::cuda
