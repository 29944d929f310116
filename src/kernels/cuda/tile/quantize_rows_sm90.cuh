// SPDX-License-Identifier: Apache-2.0
// 16 channels of a group from a row in shared memory into a lane's registers, and the sum of squares of a row.
#pragma once

#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/tile/quantize_sm90.cuh"

namespace comet::cuda {

// 16 bf16 channels in the order of channel_before or channel_after.
__device__ __forceinline__ void load_pairs(const char* row, int t, bool is_after, uint32_t (&v)[8]) {
  if (is_after) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint2 w = *reinterpret_cast<const uint2*>(row + 2 * channel_after(4 * i, t));
      v[2 * i] = w.x, v[2 * i + 1] = w.y;
    }
  } else {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint4 w = *reinterpret_cast<const uint4*>(row + 2 * channel_before(8 * i, t));
      v[4 * i] = w.x, v[4 * i + 1] = w.y, v[4 * i + 2] = w.z, v[4 * i + 3] = w.w;
    }
  }
}

__device__ __forceinline__ void load_bf16(const char* row, int t, bool is_after, float (&x)[kUnit]) {
  uint32_t v[8];
  load_pairs(row, t, is_after, v);
#pragma unroll
  for (int i = 0; i < 8; ++i) x[2 * i] = bf16_low(v[i]), x[2 * i + 1] = bf16_high(v[i]);
}

__device__ __forceinline__ void load_f32(const char* row, int t, bool is_after, float (&x)[kUnit]) {
#pragma unroll
  for (int i = 0; i < kUnit; i += 4) {
    const float4 v =
        *reinterpret_cast<const float4*>(row + 4 * (is_after ? channel_after(i, t) : channel_before(i, t)));
    x[i] = v.x, x[i + 1] = v.y, x[i + 2] = v.z, x[i + 3] = v.w;
  }
}

// silu(gate) * up; gate and up: this group's.
__device__ __forceinline__ void load_silu(const char* gate, const char* up, int t, bool is_after, float (&x)[kUnit]) {
  uint32_t g[8], v[8], most = 0;
  load_pairs(gate, t, is_after, g);
  load_pairs(up, t, is_after, v);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    x[2 * i] = silu_plain(bf16_low(g[i])) * bf16_low(v[i]);
    x[2 * i + 1] = silu_plain(bf16_high(g[i])) * bf16_high(v[i]);
    most = max_magnitude_bf16x2(most, g[i]);
  }
  if (max(most & 0x7fffu, most >> 16 & 0x7fffu) <= kPlainGate) return;
#pragma unroll 1
  for (int i = 0; i < kUnit; ++i) {  // rare, so small
    const int at = is_after ? channel_after(i, t) : channel_before(i, t);
    const float exact =
        silu(to_float(reinterpret_cast<const bf16*>(gate)[at])) * to_float(reinterpret_cast<const bf16*>(up)[at]);
#pragma unroll
    for (int j = 0; j < kUnit; ++j) x[j] = j == i ? exact : x[j];
  }
}

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
