// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_w4ax_sm90.cuh"

namespace comet::cuda {

const GemmTileKernel kGemmW4axM64Rows192{64, 1, 192, launch_gemm_w4ax<64, 9, 1, 1, 192>};

}  // namespace comet::cuda
