// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace comet::cuda::ptx {

// The product of mma.m16n8k32 with what all lanes of the warp give (src/kernels/cuda/ptx/mma.cuh has the places).
template <class A>
void mma_m16n8k32(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  uint32_t all_a[4][32], all_b[2][32];
  for (int i = 0; i < 4; ++i) std::copy_n(simt::exchange(a[i]), 32, all_a[i]);
  for (int i = 0; i < 2; ++i) std::copy_n(simt::exchange(b[i]), 32, all_b[i]);
  const int lane = threadIdx.x % 32;
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4, is_upper = i / 2, column = lane % 4 * 2 + i % 2;
    for (int k = 0; k < 32; ++k) {
      const int half = k / 16, t = k % 16 / 4, shift = k % 4 * 8;
      c[i] += static_cast<A>(all_a[2 * half + is_upper][row * 4 + t] >> shift) *
              static_cast<int8_t>(all_b[half][column * 4 + t] >> shift);
    }
  }
}
inline void mma_m16n8k32_u8s8(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                              uint32_t b1) {
  mma_m16n8k32<uint8_t>(c, {a0, a1, a2, a3}, {b0, b1});
}
inline void mma_m16n8k32_s8s8(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                              uint32_t b1) {
  mma_m16n8k32<int8_t>(c, {a0, a1, a2, a3}, {b0, b1});
}

}  // namespace comet::cuda::ptx
