// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/tile/gemv_sm90.cuh"

namespace comet::cuda {
namespace {

template <int kBlocks>
__global__ void __launch_bounds__(kGemvThreads<WeightsW8, kBlocks>, kGemvBoundCtas)
    gemv_w8a8_sm90(const __grid_constant__ GemmKernelArgs args) {
  gemv_sm90<WeightsW8, kBlocks>(args);
}

}  // namespace

void launch_gemv_w8a8(const GemmKernelArgs& args, const LaunchShape& shape) {
  args.m <= kBlockTokens ? launch_gemv<WeightsW8, 1>(gemv_w8a8_sm90<1>, args, shape)
                         : launch_gemv<WeightsW8, 2>(gemv_w8a8_sm90<2>, args, shape);
}

}  // namespace comet::cuda
