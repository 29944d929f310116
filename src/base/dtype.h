// SPDX-License-Identifier: Apache-2.0
// Element types and exact conversions between them. POD only: ISA files and CUDA may include it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define COMET_HD static __host__ __device__ __forceinline__
#else
// static + always_inline: a copy compiled with -mavx512 flags must never be the one that everybody links.
#define COMET_HD static inline __attribute__((always_inline, unused))
#endif

namespace comet {

enum class DType : uint8_t { f32, bf16, f16, i32, u8, i8, i64, boolean };

constexpr size_t dtype_bytes(DType t) {
  switch (t) {
    case DType::f32:
    case DType::i32: return 4;
    case DType::bf16:
    case DType::f16: return 2;
    case DType::i64: return 8;
    case DType::u8:
    case DType::i8:
    case DType::boolean: return 1;
  }
  return 0;
}

constexpr const char* to_string(DType t) {
  switch (t) {
    case DType::f32: return "f32";
    case DType::bf16: return "bf16";
    case DType::f16: return "f16";
    case DType::i32: return "i32";
    case DType::u8: return "u8";
    case DType::i8: return "i8";
    case DType::i64: return "i64";
    case DType::boolean: return "bool";
  }
  return "?";
}

// 16-bit floats as storage; arithmetic is always fp32.
struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

COMET_HD uint32_t float_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}

COMET_HD float float_from_bits(uint32_t u) {
  float x;
  memcpy(&x, &u, 4);
  return x;
}

COMET_HD float to_float(float x) { return x; }
COMET_HD float to_float(bf16 x) { return float_from_bits(static_cast<uint32_t>(x.bits) << 16); }

// Round to nearest even; subnormals kept, NaN stays NaN.
COMET_HD bf16 to_bf16(float x) {
  const uint32_t u = float_bits(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

COMET_HD float to_float(f16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t exponent = (x.bits >> 10) & 31u, fraction = x.bits & 1023u;
  if (exponent == 31u) return float_from_bits(sign | 0x7f800000u | (fraction << 13));
  if (exponent != 0u) return float_from_bits(sign | ((exponent + 112u) << 23) | (fraction << 13));
  const float magnitude = static_cast<float>(fraction) * float_from_bits(0x33800000u);  // 2^-24, exact
  return float_from_bits(sign | float_bits(magnitude));
}

// Round to nearest even; overflow gives infinity.
COMET_HD f16 to_f16(float x) {
  const uint32_t u = float_bits(x), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  uint32_t h;
  if (magnitude > 0x7f800000u) {
    h = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // 65520 and above round to infinity
    h = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {  // normal: 2^-14 and above
    h = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
  } else {  // subnormal: adding 0.5 puts the units of 2^-24 at the end of the fraction, rounded to even
    h = float_bits(float_from_bits(magnitude) + 0.5f) - 0x3f000000u;
  }
  return {static_cast<uint16_t>(sign | h)};
}

}  // namespace comet
