// SPDX-License-Identifier: Apache-2.0
// Progressive 4-bit weights: codes, group parameters, canonical byte order. POD only.
//
//   q4[n,k] in 0..15     z[n,g] in 0..15     s1[n,g] in 1..16     s0[n] fp32 > 0        g = k / 128
//   w8[n,k] = (q4[n,k] - z[n,g]) * s1[n,g]   in -128..127 for all 16 codes (the rule below)
//   W[n,k]  ~ s0[n] * w8[n,k]
//
// Canonical bytes of a row (checkpoint, row-major): two codes a byte, low nibble = even k
//
//   byte j   bits 7..4   bits 3..0
//            k = 2j+1    k = 2j
//
// Packed parameter byte of a group: bits 7..4 = s1 - 1, bits 3..0 = z.
#pragma once

#include "base/dtype.h"

namespace comet {

constexpr int kGroup = 128;   // consecutive k-values that share s1 and z
constexpr int kMaxK = 65536;  // largest padded K of a linear
constexpr int kMaxGroupScale = 16;

constexpr int round_up(int x, int multiple) { return (x + multiple - 1) / multiple * multiple; }

constexpr uint8_t pack_nibbles(int even, int odd) { return static_cast<uint8_t>((even & 15) | (odd << 4)); }
constexpr int unpack_nibble(const uint8_t* row, int k) { return (row[k >> 1] >> ((k & 1) * 4)) & 15; }

// The legal zero points of a group scale: all 16 codes stay in -128..127.
constexpr int min_group_zero(int s1) { return 15 - 127 / s1 > 0 ? 15 - 127 / s1 : 0; }
constexpr int max_group_zero(int s1) { return 128 / s1 < 15 ? 128 / s1 : 15; }
constexpr bool is_legal_group(int s1, int z) {
  return s1 >= 1 && s1 <= kMaxGroupScale && z >= min_group_zero(s1) && z <= max_group_zero(s1);
}

constexpr uint8_t pack_group_params(int s1, int z) { return static_cast<uint8_t>(((s1 - 1) << 4) | z); }
constexpr int group_scale_of(uint8_t params) { return (params >> 4) + 1; }
constexpr int group_zero_of(uint8_t params) { return params & 15; }

constexpr int dequantize_w8(int q4, int s1, int z) { return (q4 - z) * s1; }

namespace detail {
constexpr bool all_codes_fit() {
  for (int s1 = 1; s1 <= kMaxGroupScale; ++s1) {
    if (min_group_zero(s1) > max_group_zero(s1)) return false;
    for (int z = min_group_zero(s1); z <= max_group_zero(s1); ++z) {
      if (dequantize_w8(0, s1, z) < -128 || dequantize_w8(15, s1, z) > 127) return false;
      if (group_scale_of(pack_group_params(s1, z)) != s1 || group_zero_of(pack_group_params(s1, z)) != z) return false;
      // One multiply-add makes four offset weights of four packed bytes: no byte carries into its neighbour.
      const uint32_t word = 0x0f000f00u * static_cast<uint32_t>(s1) + static_cast<uint32_t>(128 - z * s1) * 0x01010101u;
      if ((word & 255u) != static_cast<uint32_t>(128 - z * s1) ||
          (word >> 24) != static_cast<uint32_t>(128 + (15 - z) * s1))
        return false;
    }
  }
  return true;
}
static_assert(all_codes_fit());
constexpr uint8_t kNibbleSample[2] = {pack_nibbles(1, 14), pack_nibbles(15, 0)};
static_assert(unpack_nibble(kNibbleSample, 0) == 1 && unpack_nibble(kNibbleSample, 1) == 14 &&
              unpack_nibble(kNibbleSample, 2) == 15 && unpack_nibble(kNibbleSample, 3) == 0);
}  // namespace detail

// One quantized linear in canonical order; host memory.
struct W4axWeights {
  int n = 0;
  int k = 0;                              // padded: a multiple of 128
  const uint8_t* codes = nullptr;         // [n, k/2]
  const uint8_t* group_scales = nullptr;  // [n, k/128] s1
  const uint8_t* group_zeros = nullptr;   // [n, k/128] z
  const float* channel_scales = nullptr;  // [n] s0
};

// lm_head: signed 8-bit codes, one scale a channel.
struct W8Weights {
  int n = 0;
  int k = 0;                              // padded: a multiple of 128
  const int8_t* codes = nullptr;          // [n, k] -127..127
  const float* channel_scales = nullptr;  // [n]
};

}  // namespace comet
