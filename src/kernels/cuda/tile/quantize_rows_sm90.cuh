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

// By four warps, a chain a thread. kCount more of its values, all on their way at once; with kIsCut those behind n are
// 0, which changes no sum of squares.
template <int kCount, bool kIsCut>
__device__ __forceinline__ float chain_further(float chain, const float* row, int first, int n) {
  float v[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) v[i] = !kIsCut || first + i * kGroup < n ? row[first + i * kGroup] : 0.0f;
#pragma unroll
  for (int i = 0; i < kCount; ++i) chain = fmaf(v[i], v[i], chain);
  return chain;
}

// From global memory.
__device__ __forceinline__ float chain_of_global(const float* row, int n, int thread) {
  constexpr int kInFlight = 64;
  if (n == kInFlight / 2 * kGroup) return chain_further<kInFlight / 2, false>(0.0f, row, thread, n);
  float chain = 0.0f;
  int first = 0;
  for (; first + kInFlight * kGroup <= n; first += kInFlight * kGroup)
    chain = chain_further<kInFlight, false>(chain, row, first + thread, n);
  if (first < n) chain = chain_further<kInFlight, true>(chain, row, first + thread, n);
  return chain;
}

// From shared memory, n more channels (a multiple of 8; of 128 but for the last).
__device__ __forceinline__ float chain_of_shared(float chain, const float* row, int n, int thread) {
#pragma unroll 14
  for (int i = thread; i < n; i += kGroup) chain = fmaf(row[i], row[i], chain);
  return chain;
}

// The tree over 128 chains in shared memory, by a warp; every lane gets the sum.
__device__ __forceinline__ float tree_of_chains(const float* chains, int lane) {
  float sum = (chains[lane] + chains[lane + 64]) + (chains[lane + 32] + chains[lane + 96]);
#pragma unroll
  for (int mask = 16; mask >= 1; mask /= 2) sum = sum + __shfl_xor_sync(~0u, sum, mask);
  return sum;
}

// The tree over the chains of four warps; the result is the first warp's. chains: 128 floats.
__device__ __forceinline__ float sum_of_chains(float chain, int thread, float* chains, int barrier) {
  chains[thread] = chain;
  ptx::named_barrier_sync(barrier, kGroup);
  return thread < 32 ? tree_of_chains(chains, thread) : 0.0f;
}

}  // namespace comet::cuda
