// SPDX-License-Identifier: Apache-2.0
// The sum of squares of a row by some warps of a CTA.
#pragma once

#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/tile/quantize_loads.cuh"

namespace comet::cuda {

// The stated sums of squares of kRows rows: 128 chains, then a halving tree. By one warp, from shared memory: lane l
// takes the chains 4 l .. 4 l + 3. Sums commute, so every lane ends with the tree's root.
template <int kRows>
__device__ __forceinline__ void sums_of_squares_by_warp(const float* const (&rows)[kRows], int n, int lane,
                                                        float (&sums)[kRows]) {
  float c[kRows][4] = {};
#pragma unroll 8 / kRows
  for (int i = lane * 4; i < n; i += kGroup)
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float4 v = *reinterpret_cast<const float4*>(rows[r] + i);
      c[r][0] = fmaf(v.x, v.x, c[r][0]), c[r][1] = fmaf(v.y, v.y, c[r][1]);
      c[r][2] = fmaf(v.z, v.z, c[r][2]), c[r][3] = fmaf(v.w, v.w, c[r][3]);
    }
#pragma unroll
  for (int mask = 16; mask >= 1; mask /= 2)
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int i = 0; i < 4; ++i) c[r][i] = c[r][i] + __shfl_xor_sync(~0u, c[r][i], mask);
#pragma unroll
  for (int r = 0; r < kRows; ++r) sums[r] = (c[r][0] + c[r][2]) + (c[r][1] + c[r][3]);
}
__device__ __forceinline__ float sum_of_squares_by_warp(const float* row, int n, int lane) {
  const float* const rows[1] = {row};
  float sums[1];
  sums_of_squares_by_warp<1>(rows, n, lane, sums);
  return sums[0];
}

// By four warps, a chain a thread. kCount more of its values, all on their way at once; with kIsCut those behind n are
// 0, which changes no sum of squares. under_way: what to do meanwhile.
template <int kCount, bool kIsCut, class UnderWay>
__device__ __forceinline__ float chain_further(float chain, const float* row, int first, int n,
                                               const UnderWay& under_way) {
  float v[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) v[i] = !kIsCut || first + i * kGroup < n ? row[first + i * kGroup] : 0.0f;
  under_way();
#pragma unroll
  for (int i = 0; i < kCount; ++i) chain = fmaf(v[i], v[i], chain);
  return chain;
}

// From global memory, kInFlight values of a thread at once. under_way: once, behind the first loads.
template <int kInFlight, class UnderWay>
__device__ __forceinline__ float chain_of_global(const float* row, int n, int thread, const UnderWay& under_way) {
  const auto nothing = [] {};
  if (n == 32 * kGroup) return chain_further<32, false>(0.0f, row, thread, n, under_way);
  if (n < kInFlight * kGroup) return chain_further<kInFlight, true>(0.0f, row, thread, n, under_way);
  float chain = chain_further<kInFlight, false>(0.0f, row, thread, n, under_way);
  int first = kInFlight * kGroup;
#pragma unroll 1
  for (; first + kInFlight * kGroup <= n; first += kInFlight * kGroup)
    chain = chain_further<kInFlight, false>(chain, row, first + thread, n, nothing);
  if (first < n) chain = chain_further<kInFlight, true>(chain, row, first + thread, n, nothing);
  return chain;
}
__device__ __forceinline__ float chain_of_global(const float* row, int n, int thread) {
  return chain_of_global<64>(row, n, thread, [] {});
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
