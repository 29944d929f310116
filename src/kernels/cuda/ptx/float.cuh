// SPDX-License-Identifier: Apache-2.0
// Maxima that keep NaN, the approximate reciprocal, f16. One wrapper per instruction.
#pragma once

#include <cstdint>

namespace comet::cuda::ptx {

__device__ __forceinline__ float max_or_nan(float a, float b) {
  float out;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(out) : "f"(a), "f"(b));
  return out;
}

// 1 / d, about 1 unit in the last place off; how far differs from GPU to GPU.
__device__ __forceinline__ float approximate_reciprocal(float d) {
  float out;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(d));
  return out;
}

__device__ __forceinline__ float float_of_f16(uint16_t bits) {
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(bits));
  return out;
}

// Pairs of bf16: the larger magnitudes (signs are of no meaning), NaN if one is.
__device__ __forceinline__ uint32_t max_magnitude_bf16x2(uint32_t a, uint32_t b) {
  uint32_t out;
#if __CUDA_ARCH__ >= 860
  asm("max.NaN.xorsign.abs.bf16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
#else
  asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(out) : "r"(a & 0x7fff7fffu), "r"(b & 0x7fff7fffu));
#endif
  return out;
}

}  // namespace comet::cuda::ptx
