// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_w4ax_sm90.cuh"

namespace comet::cuda {

const GemmTileKernel kGemmW4axM256{256, 1, kTileRows, launch_gemm_w4ax<256, 5, 1>};

}  // namespace comet::cuda
