// SPDX-License-Identifier: Apache-2.0
// Warp-level integer mma of Ampere and Ada with a separate addend. One wrapper per instruction.
#pragma once

#include <cstdint>

namespace comet::cuda::ptx {

// d[16 x 8] = a[16 x 64] u4 * b[64 x 8] s4 + c. A register holds 8 codes, lowest k in the lowest bits. With g = lane /
// 4, t = lane % 4:
//   a0: row g, k 8t..8t+7    a1: row g+8, the same k    a2: row g, k 32+8t..    a3: row g+8, k 32+8t..
//   b0: column g, k 8t..     b1: column g, k 32+8t..
//   d0, d1: row g, columns 2t, 2t+1    d2, d3: row g+8
__device__ __forceinline__ int4 mma_m16n8k64_u4s4(uint4 a, uint32_t b0, uint32_t b1, int4 c) {
  int4 d;
  asm("mma.sync.aligned.m16n8k64.row.col.s32.u4.s4.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, "
      "%13};"
      : "=r"(d.x), "=r"(d.y), "=r"(d.z), "=r"(d.w)
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1), "r"(c.x), "r"(c.y), "r"(c.z), "r"(c.w));
  return d;
}

// d[16 x 8] = a[16 x 32] u8 * b[32 x 8] s8 + c; fragments as in mma.cuh.
__device__ __forceinline__ int4 mma_m16n8k32_u8s8(uint4 a, uint32_t b0, uint32_t b1, int4 c) {
  int4 d;
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, "
      "%13};"
      : "=r"(d.x), "=r"(d.y), "=r"(d.z), "=r"(d.w)
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1), "r"(c.x), "r"(c.y), "r"(c.z), "r"(c.w));
  return d;
}

}  // namespace comet::cuda::ptx
