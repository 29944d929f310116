// SPDX-License-Identifier: Apache-2.0
// What a warp computes of one step: fragments from shared memory, products, and for 4-bit groups the integer scaling.
#pragma once

#include "kernels/cuda/layouts_sm80.h"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/mma_sm80.cuh"

namespace comet::cuda {

// Where a warp's operands of a step lie in shared memory; all addresses but params and multipliers are the lane's.
struct StepOperands {
  uint32_t codes;        // of the warp's first strip
  uint32_t params;       // of its first strip, rows g and g + 8
  uint32_t multipliers;  // of its first tokens 2t, 2t + 1
  uint32_t tokens;       // of its first 8 tokens
};

// Accumulators: 16 rows a unit, 8 tokens a block. x, y: row g, tokens 2t, 2t + 1; z, w: row g + 8.
template <int kUnits, int kBlocks>
using AccumulatorsSm80 = int4[kUnits][kBlocks];

// acc += m * s1 * (sum of a4 * q). What an accumulator costs beside the products decides: two multiplications load the
// multiplier pipe; packed, one multiplication gives m * s1 (at most 17 * 16) of two rows, and a mask or a shift takes
// each out on the other pipe, but they are more instructions. Half of the units each way balances pipes and issue.
template <int kUnits, int kBlocks>
__device__ __forceinline__ void int4_step(AccumulatorsSm80<kUnits, kBlocks>& acc, const StepOperands& at) {
  constexpr int kPacked = kUnits / 2;
  uint4 a[kUnits][2];
  uint32_t s0[kUnits], s8[kUnits];  // rows g and g + 8; packed: both in s0
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    a[u][0] = ptx::load_shared_v4(at.codes + u * kStripBytesSm80);
    a[u][1] = ptx::load_shared_v4(at.codes + kHalfBytesSm80 + u * kStripBytesSm80);
    const uint32_t params = ptx::load_shared_u16(at.params + u * 16);
    if (u < kPacked) {
      s0[u] = ((__byte_perm(params, 0, 0x4140) >> 4) & 0x000f000fu) + 0x00010001u;
    } else {
      s0[u] = ((params >> 4) & 15u) + 1u;
      s8[u] = (params >> 12) + 1u;
    }
  }
#pragma unroll
  for (int j = 0; j < kBlocks; ++j) {
    const uint4 b = ptx::load_shared_v4(at.tokens + j * 512);
    const uint32_t m = ptx::load_shared_u16(at.multipliers + j * 8), m0 = m & 255u, m1 = m >> 8;
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      int4 d = ptx::mma_m16n8k64_u4s4(a[u][0], b.x, b.y, {0, 0, 0, 0});
      d = ptx::mma_m16n8k64_u4s4(a[u][1], b.z, b.w, d);
      const uint32_t p0 = s0[u] * m0, p1 = s0[u] * m1;
      const bool packed = u < kPacked;
      acc[u][j].x += d.x * (packed ? p0 & 0xffffu : p0);
      acc[u][j].y += d.y * (packed ? p1 & 0xffffu : p1);
      acc[u][j].z += d.z * (packed ? p0 >> 16 : s8[u] * m0);
      acc[u][j].w += d.w * (packed ? p1 >> 16 : s8[u] * m1);
    }
  }
}

// acc += sum of a8 * (w8 + 128); four weights are made with a mask and a multiply-add, odd k with a shift before.
template <int kUnits, int kBlocks>
__device__ __forceinline__ void int8_step(AccumulatorsSm80<kUnits, kBlocks>& acc, const StepOperands& at) {
  constexpr uint32_t kLow = 0x0f0f0f0fu;
  uint4 a[kUnits][2];
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    const uint4 x = ptx::load_shared_v4(at.codes + u * kStripBytesSm80);
    const uint32_t params = ptx::load_shared_u16(at.params + u * 16);
    const uint32_t s0 = ((params >> 4) & 15u) + 1u, s8 = (params >> 12) + 1u;
    const uint32_t c0 = (128u - (params & 15u) * s0) * 0x01010101u;
    const uint32_t c8 = (128u - ((params >> 8) & 15u) * s8) * 0x01010101u;
    a[u][0] = {(x.x & kLow) * s0 + c0, (x.y & kLow) * s8 + c8, ((x.x >> 4) & kLow) * s0 + c0,
               ((x.y >> 4) & kLow) * s8 + c8};
    a[u][1] = {(x.z & kLow) * s0 + c0, (x.w & kLow) * s8 + c8, ((x.z >> 4) & kLow) * s0 + c0,
               ((x.w >> 4) & kLow) * s8 + c8};
  }
#pragma unroll
  for (int j = 0; j < kBlocks; ++j) {
    const uint4 b = ptx::load_shared_v4(at.tokens + j * 512);
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      acc[u][j] = ptx::mma_m16n8k32_u8s8(a[u][0], b.x, b.y, acc[u][j]);
      acc[u][j] = ptx::mma_m16n8k32_u8s8(a[u][1], b.z, b.w, acc[u][j]);
    }
  }
}

// acc += sum of c * v over 32 groups.
template <int kUnits, int kBlocks>
__device__ __forceinline__ void zero_step(AccumulatorsSm80<kUnits, kBlocks>& acc, const StepOperands& at) {
  uint4 a[kUnits];
#pragma unroll
  for (int u = 0; u < kUnits; ++u) a[u] = ptx::load_shared_v4(at.codes + u * kStripBytesSm80);
#pragma unroll
  for (int j = 0; j < kBlocks; ++j) {
    const uint4 b = ptx::load_shared_v4(at.tokens + j * 512);
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      const int4 high = ptx::mma_m16n8k32_u8s8(a[u], b.x, b.y, {0, 0, 0, 0});
      int4& sum = acc[u][j];
      sum.x += high.x * 128, sum.y += high.y * 128, sum.z += high.z * 128, sum.w += high.w * 128;
      sum = ptx::mma_m16n8k32_u8s8(a[u], b.z, b.w, sum);
    }
  }
}

}  // namespace comet::cuda
