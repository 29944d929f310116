// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_w4ax_sm80.cuh"

namespace comet::cuda {

const GemmTileKernelSm80 kGemmW4axSm80M64 = tile_kernel_sm80<TileSm80<64, 4, 4>, 3>();

}  // namespace comet::cuda
