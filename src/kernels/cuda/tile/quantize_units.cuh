// SPDX-License-Identifier: Apache-2.0
// The arithmetic of quantize_act with 16 channels of a 128-channel group in a lane: rotation, maxima, scales, codes,
// silu. Bit for bit the stated sequences of quant/fp32.h and kernels/quantize_act.h, on every architecture.
#pragma once

#include "kernels/cuda/ptx/float.cuh"
#include "kernels/cuda/tile/quotient.h"
#include "kernels/quantize_act.h"
#include "quant/fp32.h"

namespace comet::cuda {

constexpr int kUnit = 16;                   // channels of a lane
constexpr int kUnitLanes = kGroup / kUnit;  // lanes of a group
constexpr int kWarpGroups = 32 / kUnitLanes;
constexpr float kRoundToInt = 12582912.0f;  // 1.5 * 2^23: adding it rounds to nearest even, the low byte is the integer
constexpr uint32_t kNotFinite = 0x7f800000u;

// Which channel register i of lane t holds.
//   before rotation   64 (i / 8) + 8 t + i % 8    bits 0, 1, 2 and 6 of the channel in the lane: 16-byte pieces of bf16
//   after             32 (i / 4) + 4 t + i % 4    bits 0, 1, 5 and 6: words of four codes
constexpr int channel_before(int i, int t) { return 64 * (i / 8) + 8 * t + i % 8; }
constexpr int channel_after(int i, int t) { return 32 * (i / 4) + 4 * t + i % 4; }

// The 128-point Hadamard in registers. The strides are stated in the order 1, 2, .. 64, so each bit of the channel must
// be in the lane when its turn comes: bits 3, 4 and 5 come from the lane number in exchange for 2, 3 and 4. A lane
// sends half of its registers, always the upper ones: it puts sum and difference where its partner wants them (a factor
// of +1 or -1 in the butterfly before). What arrives may lie in the wrong order for u - v; -(u - v) then stands in all
// registers of a lane, or in all with bit 5, and the last multiplication turns it back.
//   is_swapped: register i came with bit 2 of i inverted.
struct Rotation {
  float placed[3];  // for the exchange over lane bit j
  float scale[2];   // by bit 5 of the channel

  __device__ Rotation(int lane, float hadamard_scale, bool is_swapped) {
    const int b0 = lane & 1, b1 = lane >> 1 & 1, b2 = lane >> 2 & 1;
    placed[0] = b0 != 0 ? -1.0f : 1.0f;
    placed[1] = b1 != 0 ? -1.0f : 1.0f;
    placed[2] = b2 != 0 ? -1.0f : 1.0f;
    scale[0] = (((is_swapped ? 1 : 0) & b0) ^ (b0 & b1) ^ (b1 & b2)) != 0 ? -hadamard_scale : hadamard_scale;
    scale[1] = scale[0] * placed[2];
  }
};

template <int kStride>
__device__ __forceinline__ void butterfly(float (&x)[kUnit]) {
#pragma unroll
  for (int i = 0; i < kUnit; ++i)
    if ((i & kStride) == 0) {
      const float u = x[i], v = x[i + kStride];
      x[i] = u + v, x[i + kStride] = u - v;
    }
}

// A butterfly along register bit 2, sum below if placed = 1; then that bit changes places with the lane bit of mask.
__device__ __forceinline__ void butterfly_and_exchange(float (&x)[kUnit], float placed, int mask) {
#pragma unroll
  for (int i = 0; i < kUnit; ++i)
    if ((i & 4) == 0) {
      const float u = x[i], v = x[i + 4];
      x[i] = fmaf(v, placed, u), x[i + 4] = __shfl_xor_sync(~0u, fmaf(-v, placed, u), mask);
    }
}

__device__ __forceinline__ void rotate(float (&x)[kUnit], const Rotation& r) {
  butterfly<1>(x);
  butterfly<2>(x);
  butterfly_and_exchange(x, r.placed[0], 1);
  butterfly_and_exchange(x, r.placed[1], 2);
  butterfly_and_exchange(x, r.placed[2], 4);
  butterfly<4>(x);
  butterfly<8>(x);
#pragma unroll
  for (int i = 0; i < kUnit; ++i) x[i] = x[i] * r.scale[i / 4 % 2];
}

// In the lanes whose group is rotated; they differ in a warp only where the regions meet.
__device__ __forceinline__ void rotate_where(bool is_rotated, float (&x)[kUnit], const Rotation& r) {
  if (__all_sync(~0u, is_rotated)) {
    rotate(x, r);
  } else if (__any_sync(~0u, is_rotated)) {
    float rotated[kUnit];
#pragma unroll
    for (int i = 0; i < kUnit; ++i) rotated[i] = x[i];
    rotate(rotated, r);
#pragma unroll
    for (int i = 0; i < kUnit; ++i) x[i] = is_rotated ? rotated[i] : x[i];
  }
}

// The larger |x|; NaN if one is, which is larger than all as bits.
__device__ __forceinline__ float max_magnitude(float most, float x) { return ptx::max_or_nan(most, fabsf(x)); }

__device__ __forceinline__ uint32_t largest_bits(const float (&x)[kUnit]) {
  float a = fabsf(x[0]), b = fabsf(x[1]);
#pragma unroll
  for (int i = 2; i < kUnit; i += 2) a = max_magnitude(a, x[i]), b = max_magnitude(b, x[i + 1]);
  return float_bits(max_magnitude(a, b)) & 0x7fffffffu;
}

// The largest of a group's 8 lanes, for the item lane % kItems.
template <int kItems>
__device__ __forceinline__ uint32_t group_most(const uint32_t (&most)[kItems], int lane) {
  uint32_t own = most[0];
  if constexpr (kItems == 2) {
    const bool is_odd = lane % 2 != 0;
    own = max(is_odd ? most[1] : most[0], __shfl_xor_sync(~0u, is_odd ? most[0] : most[1], 1));
  } else {
    own = max(own, __shfl_xor_sync(~0u, own, 1));
  }
  own = max(own, __shfl_xor_sync(~0u, own, 2));
  return max(own, __shfl_xor_sync(~0u, own, 4));
}

// n / d rounded to nearest even, for an integer d < 2^11 and inverse = 1 / d so rounded: the remainder is exact, and no
// quotient lies nearer to the middle between two floats than 2^-12 of their distance.
__device__ __forceinline__ float divide_by_small(float n, float d, float inverse) {
  const float q = n * inverse;
  return fmaf(fmaf(-d, q, n), inverse, q);
}

// token_scales of kernels/quantize_act.h for finite maxima; r is 1 where it is not wanted.
struct ScaleConstants {
  float clip1, clip2, limit2, inverse_limit2, rmax, inverse_rmax;
};
inline ScaleConstants scale_constants(const ActFormat& f) {
  const float limit2 = static_cast<float>(region2_limit(f.bits2)), rmax = static_cast<float>(max_region1_factor(f));
  return {f.clip1, f.clip2, limit2, 1.0f / limit2, rmax, 1.0f / rmax};
}
__device__ __forceinline__ TokenScales scales_of(float amax1, float amax2, const ScaleConstants& c,
                                                 bool wants_r = true) {
  const float a1 = amax1 < kMinAmax ? 0.0f : amax1, a2 = amax2 < kMinAmax ? 0.0f : amax2;
  const float d1 = divide_by_small(c.clip1 * a1, 127.0f, 1.0f / 127.0f);
  const float d2 = divide_by_small(c.clip2 * a2, c.limit2, c.inverse_limit2);
  const float floor1 = divide_by_small(d1, c.rmax, c.inverse_rmax);
  TokenScales s{fmaxf(d2, floor1), 1};
  if (wants_r && d1 > s.sx) s.r = static_cast<int>(fminf(ceilf(d1 / s.sx), c.rmax));
  return s;
}

// Codes clamped to -limit .. limit, as signed bytes: word h holds registers 4 h .. 4 h + 3. Returns the lane's sum.
// limit 0 makes all of them 0, whatever x is.
__device__ __forceinline__ int codes_of(const float (&x)[kUnit], float inverse_step, float limit,
                                        uint32_t (&words)[4]) {
  int sum = 0;
#pragma unroll
  for (int h = 0; h < 4; ++h) {
    uint32_t code[4];
#pragma unroll
    for (int b = 0; b < 4; ++b)  // clamped first: the limits are integers
      code[b] = float_bits(fminf(fmaxf(x[4 * h + b] * inverse_step, -limit), limit) + kRoundToInt);
    words[h] = __byte_perm(__byte_perm(code[0], code[1], 0x0040), __byte_perm(code[2], code[3], 0x0040), 0x5410);
    sum = __dp4a(static_cast<int>(words[h]), 0x01010101, sum);
  }
  return sum;
}

__device__ __forceinline__ float bf16_low(uint32_t pair) { return float_from_bits(pair << 16); }
__device__ __forceinline__ float bf16_high(uint32_t pair) { return float_from_bits(pair & 0xffff0000u); }

// silu(x) for bf16 x of magnitude up to kPlainGate: no exponent leaves its range. With Hopper's approximate reciprocal
// the quotient needs one correction (all 65,536 arguments are tested there); elsewhere it gets what no reciprocal
// fails.
constexpr uint32_t kPlainGate = 0x42a0;  // 80 as bf16
__device__ __forceinline__ float silu_plain(float x) {
  const float power = -x * kLog2E;
  const float rounded = power + kRoundToInt, f = power - (rounded - kRoundToInt);
  const float d = 1.0f + float_from_bits(float_bits(exp2_fraction(f)) + (float_bits(rounded) << 23));
  const float inverse = ptx::approximate_reciprocal(d);
#if __CUDA_ARCH__ == 900
  const float q = x * inverse;
  return fmaf(fmaf(-d, q, x), inverse, q);
#else
  return quotient(x, d, inverse);
#endif
}

}  // namespace comet::cuda
