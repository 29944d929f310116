// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/tile/gemv_sm90.cuh"

namespace comet::cuda {
namespace {

template <int kBlocks>
__global__ void __launch_bounds__(kGemvThreads<WeightsW8, kBlocks>, kGemvCtasPerSm)
    gemv_w8a8_sm90(const __grid_constant__ GemmKernelArgs args) {
  gemv_sm90<WeightsW8, kBlocks>(args);
}

template <int kBlocks>
void launch_blocks(const GemmKernelArgs& args, const LaunchShape& shape) {
  launch_gemv<WeightsW8, kBlocks>(gemv_w8a8_sm90<kBlocks>, args, shape);
}

}  // namespace

void launch_gemv_w8a8(const GemmKernelArgs& args, const LaunchShape& shape) {
  args.m <= kBlockTokens ? launch_blocks<1>(args, shape) : launch_blocks<2>(args, shape);
}

}  // namespace comet::cuda
