// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_w4ax_sm90.cuh"

namespace comet::cuda {

const GemmTileKernel kGemmW4axM64{64, 1, kTileRows, launch_gemm_w4ax<64, 5, 2>};

}  // namespace comet::cuda
