// SPDX-License-Identifier: Apache-2.0
// The sum of squares of a row by some warps of a CTA.
#pragma once

#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/tile/quantize_loads.cuh"

namespace comet::cuda {

// The stated sum of squares: 128 chains, then a halving tree.
//
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
