// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_w4ax_sm90.cuh"

namespace comet::cuda {

const GemmTileKernel kGemmW4axM128{128, 1, kTileRows, launch_gemm_w4ax<128, 4, 1>};

}  // namespace comet::cuda
