// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_w4ax_sm90.cuh"

namespace comet::cuda {

const GemmTileKernel kGemmW4axM32Sides{32, 2, kTileRows, launch_gemm_w4ax<32, 14, 1, 2>};

}  // namespace comet::cuda
