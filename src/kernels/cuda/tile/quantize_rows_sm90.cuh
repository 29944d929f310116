// SPDX-License-Identifier: Apache-2.0
// The sum of squares of a row by some warps of a CTA.
#pragma once

#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/tile/quantize_loads.cuh"

namespace comet::cuda {

// The stated sum of squares: 128 chains, then a halving tree. By one warp, from shared memory: lane l takes the chains
// 4 l .. 4 l + 3. Sums commute, so every lane ends with the tree's root.
__device__ __forceinline__ float sum_of_squares_by_warp(const float* row, int n, int lane) {
  float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 8
  for (int i = lane * 4; i < n; i += kGroup) {
    const float4 v = *reinterpret_cast<const float4*>(row + i);
    c[0] = fmaf(v.x, v.x, c[0]), c[1] = fmaf(v.y, v.y, c[1]);
    c[2] = fmaf(v.z, v.z, c[2]), c[3] = fmaf(v.w, v.w, c[3]);
  }
#pragma unroll
  for (int mask = 16; mask >= 1; mask /= 2)
#pragma unroll
    for (int i = 0; i < 4; ++i) c[i] = c[i] + __shfl_xor_sync(~0u, c[i], mask);
  return (c[0] + c[2]) + (c[1] + c[3]);
}

// By four warps, from global memory, a chain a thread; the result is the first warp's. chains: 128 floats.
__device__ __forceinline__ float sum_of_squares_by_four(const float* row, int n, int thread, float* chains,
                                                        int barrier) {
  constexpr int kInFlight = 64;
  float chain = 0.0f;
  for (int first = thread; first < n; first += kInFlight * kGroup) {
    float v[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) v[i] = first + i * kGroup < n ? row[first + i * kGroup] : 0.0f;
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) chain = fmaf(v[i], v[i], chain);  // + 0 changes no sum of squares
  }
  chains[thread] = chain;
  ptx::named_barrier_sync(barrier, kGroup);
  if (thread >= 32) return 0.0f;
  float sum = (chains[thread] + chains[thread + 64]) + (chains[thread + 32] + chains[thread + 96]);
#pragma unroll
  for (int mask = 16; mask >= 1; mask /= 2) sum = sum + __shfl_xor_sync(~0u, sum, mask);
  return sum;
}

}  // namespace comet::cuda
