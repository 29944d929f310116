// SPDX-License-Identifier: Apache-2.0
// Warp-level integer mma. One wrapper per instruction.
#pragma once

#include <cstdint>

namespace comet::cuda::ptx {

// c[16 x 8] += a[16 x 32] u8 * b[32 x 8] s8. With g = lane / 4, t = lane % 4:
//   a0: row g, k 4t..4t+3    a1: row g+8, the same k    a2: row g, k 16+4t..    a3: row g+8, k 16+4t..
//   b0: column g, k 4t..     b1: column g, k 16+4t..
//   c0, c1: row g, columns 2t, 2t+1    c2, c3: row g+8
__device__ __forceinline__ void mma_m16n8k32_u8s8(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                                  uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void mma_m16n8k32_s8s8(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                                  uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

}  // namespace comet::cuda::ptx
