// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_w8a8_sm90.cuh"

namespace comet::cuda {

const GemmTileKernel kGemmW8a8M128{128, 1, kTileRows, launch_gemm_w8a8<128, 3, 1>};

}  // namespace comet::cuda
