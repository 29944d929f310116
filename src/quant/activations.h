// SPDX-License-Identifier: Apache-2.0
// Quantized activations: two regions, one fp32 scale a token, integer multipliers. POD only.
//
//   region 1: the first n8 groups       value = a8 * r[t] * sx[t]
//   region 2: the other groups          value = m[t,g] * a4 * sx[t]  (4-bit)   or   a8 * sx[t]  (8-bit)
#pragma once

#include "quant/weights.h"

namespace comet {

// How one site's input is quantized; from the checkpoint.
struct ActFormat {
  int k_in = 0;             // channels of the input row
  int k = 0;                // channels after permutation and padding: a multiple of 128
  int num_int8_groups = 0;  // n8: groups of region 1
  int bits2 = 8;            // 4 or 8: codes of region 2
  bool rotate = false;      // 128-point Hadamard in each group of region 2
  float clip1 = 1.0f, clip2 = 1.0f;

  int num_groups() const { return k / kGroup; }
  int k1() const { return num_int8_groups * kGroup; }
  int k2() const { return k - k1(); }
};

constexpr int kMaxMultiplier = 17;

// Largest |value| of region 2: 127, or 17 * 7.
constexpr int region2_limit(int bits2) { return bits2 == 4 ? kMaxMultiplier * 7 : 127; }

// rmax: the largest r for which r * acc1 + acc2 cannot leave int32.
constexpr int max_region1_factor(const ActFormat& f) {
  if (f.num_int8_groups == 0) return 1;
  const int64_t region2 = static_cast<int64_t>(region2_limit(f.bits2)) * 128 * (f.k - f.num_int8_groups * kGroup);
  return static_cast<int>((2147483647 - region2) / (static_cast<int64_t>(127) * 128 * f.num_int8_groups * kGroup));
}

// Byte order of QuantizedActs::values.
enum class ActLayout : uint8_t {
  rows,            // [m, k] row-major
  tiles_sm90,      // kernels/cuda/layouts_sm90.h: 8-token blocks of a group
  fragments_sm90,  // the same blocks as mma fragments, for few tokens
  packed_sm80,
};

// One batch of quantized rows, in the memory of one backend.
struct QuantizedActs {
  ActLayout layout = ActLayout::rows;
  int8_t* values = nullptr;            // [m, k]: a8, or m * a4
  uint8_t* multipliers = nullptr;      // [m, k/128]: m; 1 for 8-bit groups
  int16_t* group_sums = nullptr;       // [m, k/128]: sum of the group's codes (not times m)
  int32_t* region1_factors = nullptr;  // [m]: r
  float* scales = nullptr;             // [m]: sx
  uint32_t* sums = nullptr;            // [m]: osum = r * (sum over region 1) + sum over region 2 of values, modulo 2^32
};

}  // namespace comet
