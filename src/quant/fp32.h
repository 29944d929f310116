// SPDX-License-Identifier: Apache-2.0
// The stated fp32 sequences of the number contract (docs/formats.md), one text for C++ and CUDA. POD only.
//
// Every operation rounds to nearest even, subnormals are kept, and fma stands only where it is written: C++ is built
// with -ffp-contract=off, CUDA with --fmad=false.
#pragma once

#include <math.h>

#include "base/dtype.h"

namespace comet {

constexpr float kLog2E = 0x1.715476p+0f;  // fp32(log2 e)
constexpr float kMinAmax = 0x1p-100f;     // below it a region counts as zero

COMET_HD float rne(float x) { return rintf(x); }

COMET_HD bool is_finite(float x) { return (float_bits(x) & 0x7f800000u) != 0x7f800000u; }

COMET_HD float clampf(float x, float low, float high) { return x < low ? low : (x > high ? high : x); }

// 2^f for |f| <= 1/2, the polynomial of exp2_stated.
COMET_HD float exp2_fraction(float f) {
  float p = 0x1.5c10d4p-10f;
  p = fmaf(f, p, 0x1.3cee66p-7f);
  p = fmaf(f, p, 0x1.c6b64ep-5f);
  p = fmaf(f, p, 0x1.ebf9aep-3f);
  p = fmaf(f, p, 0x1.62e42ap-1f);
  return fmaf(f, p, 1.0f);
}

// 2^x for finite x: 0 below -126, +inf from 128; 1.6e-7 relative, never above 1 for x <= 0.
COMET_HD float exp2_stated(float x) {
  if (x < -126.0f) return 0.0f;
  if (x >= 128.0f) return float_from_bits(0x7f800000u);
  const float n = rne(x), f = x - n;
  return float_from_bits(float_bits(exp2_fraction(f)) + (static_cast<uint32_t>(static_cast<int32_t>(n)) << 23));
}

COMET_HD float silu(float x) { return x / (1.0f + exp2_stated(-x * kLog2E)); }

// Sum of squares of x[0..n): 128 fma chains from +0 (chain j takes j, j + 128, ..), then a halving tree 64, 32, .. 1.
template <typename T>
COMET_HD float sum_of_squares(const T* x, int n) {
  float chain[128];
  for (int j = 0; j < 128; ++j) {
    chain[j] = 0.0f;
    for (int i = j; i < n; i += 128) chain[j] = fmaf(to_float(x[i]), to_float(x[i]), chain[j]);
  }
  for (int half = 64; half >= 1; half /= 2)
    for (int j = 0; j < half; ++j) chain[j] = chain[j] + chain[j + half];
  return chain[0];
}

// The factor inv of RMSNorm: y = (x * inv) * gain.
COMET_HD float rms_inverse(float sum_of_squares_x, int n, float eps) {
  return 1.0f / sqrtf(sum_of_squares_x / static_cast<float>(n) + eps);
}

// In-place normalized Hadamard of n = 2^p points: stages of stride 1, 2, .. n/2 of (u + v, u - v), then one multiply.
// scale is fp32(n^-1/2): hadamard_scale(n).
COMET_HD void hadamard(float* x, int n, float scale) {
  for (int stride = 1; stride < n; stride *= 2)
    for (int i = 0; i < n; ++i)
      if ((i & stride) == 0) {
        const float u = x[i], v = x[i + stride];
        x[i] = u + v;
        x[i + stride] = u - v;
      }
  for (int i = 0; i < n; ++i) x[i] = x[i] * scale;
}

inline float hadamard_scale(int n) { return static_cast<float>(1.0 / sqrt(static_cast<double>(n))); }

constexpr bool is_power_of_two(int n) { return n > 0 && (n & (n - 1)) == 0; }

}  // namespace comet
