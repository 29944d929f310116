// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_w4ax_sm90.cuh"

namespace comet::cuda {

const GemmTileKernel kGemmW4axM32{32, 1, kTileRows, launch_gemm_w4ax<32, 7, 2>};

}  // namespace comet::cuda
