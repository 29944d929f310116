// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_w4ax_sm90.cuh"

namespace comet::cuda {

const GemmTileKernel kGemmW4axM128Rows192{128, 1, 192, launch_gemm_w4ax<128, 3, 1, 1, 192>};

}  // namespace comet::cuda
