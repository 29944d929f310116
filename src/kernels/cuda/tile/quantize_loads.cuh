// SPDX-License-Identifier: Apache-2.0
// 16 channels of a group from a row, in shared or global memory, into a lane's registers.
#pragma once

#include "kernels/cuda/tile/quantize_units.cuh"

namespace comet::cuda {

// 16 bf16 channels in the order of channel_before or channel_after. With kIsCut, those from `end` on, a multiple of 8,
// are 0 and not read.
template <bool kIsCut = false>
__device__ __forceinline__ void load_pairs(const char* row, int t, bool is_after, uint32_t (&v)[8], int end = kGroup) {
  if (is_after) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int channel = channel_after(4 * i, t);
      const uint2 w = !kIsCut || channel < end ? *reinterpret_cast<const uint2*>(row + 2 * channel) : uint2{0, 0};
      v[2 * i] = w.x, v[2 * i + 1] = w.y;
    }
  } else {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int channel = channel_before(8 * i, t);
      const uint4 w = !kIsCut || channel < end ? *reinterpret_cast<const uint4*>(row + 2 * channel) : uint4{0, 0, 0, 0};
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
template <bool kIsCut = false>
__device__ __forceinline__ void load_silu(const char* gate, const char* up, int t, bool is_after, float (&x)[kUnit],
                                          int end = kGroup) {
  uint32_t g[8], v[8], most = 0;
  load_pairs<kIsCut>(gate, t, is_after, g, end);
  load_pairs<kIsCut>(up, t, is_after, v, end);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    x[2 * i] = silu_plain(bf16_low(g[i])) * bf16_low(v[i]);
    x[2 * i + 1] = silu_plain(bf16_high(g[i])) * bf16_high(v[i]);
    most = ptx::max_magnitude_bf16x2(most, g[i]);
  }
  if (max(most & 0x7fffu, most >> 16 & 0x7fffu) <= kPlainGate) return;
#pragma unroll 1
  for (int i = 0; i < kUnit; ++i) {  // rare, so small
    const int at = is_after ? channel_after(i, t) : channel_before(i, t);
    if (kIsCut && at >= end) continue;
    const float exact =
        silu(to_float(reinterpret_cast<const bf16*>(gate)[at])) * to_float(reinterpret_cast<const bf16*>(up)[at]);
#pragma unroll
    for (int j = 0; j < kUnit; ++j) x[j] = j == i ? exact : x[j];
  }
}

}  // namespace comet::cuda
