// SPDX-License-Identifier: Apache-2.0
// Without the layout and without the fast conversion: other Weights.
#include "bench/gemm/ablation_weights.cuh"
#include "bench/gemm/gemm_ablation.cuh"

namespace comet::cuda {
namespace {

constexpr int kPackThreads = 256;

// One CTA a unit: a thread moves four bytes of codes and, the first 16, a parameter byte.
__global__ void pack_plain_kernel(W4axWeights w, uint8_t* packed) {
  const int groups = w.k / kGroup, strips = num_packed_strips(w.n);
  const int group = blockIdx.x / strips, strip = blockIdx.x % strips;
  uint8_t* unit = packed + static_cast<size_t>(blockIdx.x) * kUnitBytesW4;
  const int row = strip * kStripRows + threadIdx.x / 16, byte = threadIdx.x % 16 * 4;
  const uint8_t* from = w.codes + static_cast<size_t>(row) * (w.k / 2) + group * kPlainRowBytes + byte;
  reinterpret_cast<uint32_t*>(unit)[threadIdx.x] = row < w.n ? *reinterpret_cast<const uint32_t*>(from) : 0u;
  if (threadIdx.x < kStripRows) {
    const int r = strip * kStripRows + threadIdx.x;
    const size_t at = static_cast<size_t>(r) * groups + group;
    unit[kUnitParamsW4 + threadIdx.x] = r < w.n ? pack_group_params(w.group_scales[at], w.group_zeros[at]) : uint8_t{0};
  }
}

}  // namespace

void pack_w4ax_plain(const W4axWeights& w, void* packed, cudaStream_t stream) {
  pack_plain_kernel<<<num_packed_strips(w.n) * (w.k / kGroup), kPackThreads, 0, stream>>>(
      w, static_cast<uint8_t*>(packed));
  COMET_CUDA_CHECK(cudaGetLastError());
}

void launch_without_layout(const GemmKernelArgs& args, const GemmPlan& plan, const LaunchShape& shape) {
  launch_ablation<PlainW4>(args, plan, shape);
}
void launch_without_fast_conversion(const GemmKernelArgs& args, const GemmPlan& plan, const LaunchShape& shape) {
  launch_ablation<OneCodeW4>(args, plan, shape);
}

}  // namespace comet::cuda
