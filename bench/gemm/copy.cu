// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "bench/gemm/copy.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/launch.cuh"

namespace comet::cuda {
namespace {

struct CopyArgs {
  uint4* to;
  const uint4* from;
  size_t count;
};

constexpr int kThreads = 512, kInFlight = 4;

__global__ void __launch_bounds__(kThreads) copy_kernel(const __grid_constant__ CopyArgs a) {
  ptx::allow_next_kernel();
  ptx::wait_for_previous_kernel();
  const size_t step = static_cast<size_t>(gridDim.x) * kThreads;
  for (size_t i = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x; i < a.count; i += step * kInFlight) {
    uint4 v[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j)
      if (i + j * step < a.count) v[j] = __ldcs(a.from + i + j * step);
#pragma unroll
    for (int j = 0; j < kInFlight; ++j)
      if (i + j * step < a.count) __stcs(a.to + i + j * step, v[j]);
  }
}

__global__ void __launch_bounds__(kThreads) read_and_rewrite_kernel(const __grid_constant__ CopyArgs a) {
  ptx::allow_next_kernel();
  ptx::wait_for_previous_kernel();
  const size_t step = static_cast<size_t>(gridDim.x) * kThreads;
  for (size_t i = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x; i < a.count; i += step) {
    uint4 v[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) v[j] = __ldcs(a.from + i + j * a.count);
    const uint4 kept = a.to[i];
#pragma unroll
    for (int j = 0; j < 4; ++j) asm volatile("" ::"r"(v[j].x), "r"(v[j].y), "r"(v[j].z), "r"(v[j].w));
    a.to[i] = kept;
  }
}

void launch(void (*kernel)(CopyArgs), void* to, const void* from, size_t bytes, int sms, cudaStream_t stream) {
  const size_t count = bytes / sizeof(uint4);
  const int ctas = static_cast<int>(std::clamp<size_t>((count + kThreads - 1) / kThreads, 1, 4 * sms));
  launch_dependent(kernel, {ctas, kThreads, 0, stream},
                   CopyArgs{static_cast<uint4*>(to), static_cast<const uint4*>(from), count});
}

}  // namespace

void launch_copy(void* to, const void* from, size_t bytes, int sms, cudaStream_t stream) {
  launch(copy_kernel, to, from, bytes, sms, stream);
}

void launch_read_and_rewrite(void* kept, const void* from, size_t bytes, int sms, cudaStream_t stream) {
  launch(read_and_rewrite_kernel, kept, from, bytes, sms, stream);
}

}  // namespace comet::cuda
