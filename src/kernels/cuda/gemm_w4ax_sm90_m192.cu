// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_w4ax_sm90.cuh"

namespace comet::cuda {

const GemmTileKernel kGemmW4axM192{192, 1, kTileRows, launch_gemm_w4ax<192, 5, 1>};

}  // namespace comet::cuda
