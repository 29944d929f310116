// SPDX-License-Identifier: Apache-2.0
// Canonical weights -> units of layouts_sm90.h, on the device.
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/gemm_sm90.h"
#include "kernels/cuda/layouts_sm90.h"

namespace comet::cuda {
namespace {

constexpr int kPackThreads = 256;

// One CTA a unit: a thread writes one 32-bit word (8 codes: 4 k of the rows g and g + 8) and, the first 16, a parameter
// byte.
__global__ void pack_w4ax_kernel(W4axWeights w, uint8_t* packed) {
  const int groups = w.k / kGroup, strips = num_packed_strips(w.n);
  const int group = blockIdx.x / strips, strip = blockIdx.x % strips;
  uint8_t* unit = packed + static_cast<size_t>(blockIdx.x) * kUnitBytesW4;
  const int lane = threadIdx.x / 8, word = threadIdx.x % 8, row = strip * kStripRows + lane / 4;
  const int k = group * kGroup + word / 2 * 32 + word % 2 * 16 + lane % 4 * 4;
  uint32_t bytes = 0;
  for (int b = 0; b < 4; ++b)
    for (int high = 0; high < 2; ++high) {
      const int r = row + 8 * high;
      if (r >= w.n) continue;
      const uint32_t code = (w.codes[static_cast<size_t>(r) * (w.k / 2) + (k + b) / 2] >> ((k + b) % 2 * 4)) & 15u;
      bytes |= code << (8 * b + 4 * high);
    }
  *reinterpret_cast<uint32_t*>(unit + word / 4 * 512 + lane * 16 + word % 4 * 4) = bytes;
  if (threadIdx.x < kStripRows) {
    const int r = strip * kStripRows + threadIdx.x / 2 + threadIdx.x % 2 * 8;
    const size_t at = static_cast<size_t>(r) * groups + group;
    unit[kUnitParamsW4 + threadIdx.x] = r < w.n ? pack_group_params(w.group_scales[at], w.group_zeros[at]) : uint8_t{0};
  }
}

__global__ void pack_w8_kernel(W8Weights w, uint8_t* packed) {
  const int strips = num_packed_strips(w.n);
  const int group = blockIdx.x / strips, strip = blockIdx.x % strips;
  uint8_t* unit = packed + static_cast<size_t>(blockIdx.x) * kUnitBytesW8;
  for (int i = threadIdx.x; i < 512; i += kPackThreads) {
    const int lane = i / 16, word = i % 16, row = strip * kStripRows + lane / 4 + 8 * (word % 2);
    const int k = group * kGroup + word / 4 * 32 + word / 2 % 2 * 16 + lane % 4 * 4;
    const uint32_t bytes =
        row < w.n ? *reinterpret_cast<const uint32_t*>(w.codes + static_cast<size_t>(row) * w.k + k) : 0u;
    *reinterpret_cast<uint32_t*>(unit + word / 4 * 512 + lane * 16 + word % 4 * 4) = bytes;
  }
}

}  // namespace

void pack_w4ax_sm90(const W4axWeights& w, void* packed, cudaStream_t stream) {
  pack_w4ax_kernel<<<num_packed_strips(w.n) * (w.k / kGroup), kPackThreads, 0, stream>>>(w,
                                                                                         static_cast<uint8_t*>(packed));
  COMET_CUDA_CHECK(cudaGetLastError());
}

void pack_w8_sm90(const W8Weights& w, void* packed, cudaStream_t stream) {
  pack_w8_kernel<<<num_packed_strips(w.n) * (w.k / kGroup), kPackThreads, 0, stream>>>(w,
                                                                                       static_cast<uint8_t*>(packed));
  COMET_CUDA_CHECK(cudaGetLastError());
}

}  // namespace comet::cuda
