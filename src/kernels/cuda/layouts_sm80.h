// SPDX-License-Identifier: Apache-2.0
// Byte orders of weights and activations for Ampere and Ada, written once for packers, kernels and tests. POD only.
#pragma once

#include "quant/activations.h"

namespace comet::cuda {

// ---- Steps. A tile's k is walked in steps that cost the tensor cores the same: 2 mma for each 16 x 8 outputs.
//
//   int8   half a group of 8-bit activations     2 x m16n8k32, weights unpacked to u8 = w8 + 128
//   zero   the constants of 32 4-bit groups      2 x m16n8k32
//   int4   a group of 4-bit activations          2 x m16n8k64, weight codes as they lie in memory
//
//   int8 (region 1) | int8 (region 2 of 8 bits)   or   int8 (region 1) | zero | int4
//
// What they add up to, with u8 = w8 + 128 = s1 * q + c, c = 128 - z * s1 in 0..128 and v = m * asum:
//
//   sum over k of a * u8  =  sum of int8 groups  +  sum over g of m * s1 * (sum over k of a4 * q)  +  sum over g of c *
//   v
//
// v needs 15 bits: v = 128 * high + low, both s8, so that a zero step is two 8-bit products. 128 * osum comes off at
// the end.
enum class StepKind : uint8_t { int8, zero, int4 };

constexpr int kZeroGroups = 32;  // groups of a zero step

struct StepsSm80 {
  int groups = 0;       // k / 128
  int int8_groups = 0;  // region 1
  int int8_steps = 0;   // of both regions
  int first_zero = 0;   // block of kZeroGroups groups of the first zero step
  int zero_steps = 0;
  int total = 0;
};

constexpr int num_zero_blocks(int groups) { return (groups + kZeroGroups - 1) / kZeroGroups; }

constexpr StepsSm80 make_steps_sm80(int k, int num_int8_groups, int bits2) {
  StepsSm80 s;
  s.groups = k / kGroup;
  s.int8_groups = num_int8_groups;
  const int int4_groups = bits2 == 4 ? s.groups - num_int8_groups : 0;
  s.int8_steps = 2 * (s.groups - int4_groups);
  s.first_zero = num_int8_groups / kZeroGroups;
  s.zero_steps = int4_groups > 0 ? num_zero_blocks(s.groups) - s.first_zero : 0;
  s.total = s.int8_steps + s.zero_steps + int4_groups;
  return s;
}

COMET_HD StepKind step_kind(const StepsSm80& s, int step) {
  if (step < s.int8_steps) return StepKind::int8;
  return step < s.int8_steps + s.zero_steps ? StepKind::zero : StepKind::int4;
}

// ---- Weights: for each 128 rows, its groups, then its zero blocks; a strip is 16 rows.
//
//   [n / 128]{ [k / 128][group block, 8320 bytes] , [k / 4096][zero block, 4096 bytes] }
//
//   group block:  codes [half of the group 2][strip 8][lane 32][16 bytes] | parameter bytes [strip 8][g 8]{row g, g +
//   8} zero block:   [strip 8][lane 32][16 bytes]
//
// Lane l of a warp has g = l / 4, t = l % 4. A code word is 8 neighbours in k of one row, as in the checkpoint:
//
//   bit   31..28 27..24 23..20 19..16 15..12 11..8  7..4   3..0        word w = 0..3 of half h: row g + 8 (w % 2),
//   k      +7     +6     +5     +4     +3     +2     +1     +0         k = 64 h + 32 (w / 2) + 8 t + ..
//
// so the 4 words of a half are a0..a3 of m16n8k64, and x & 0x0f0f0f0f, (x >> 4) & 0x0f0f0f0f are the even and the odd k
// for a0/a2 (words 0, 2) and a1/a3 (words 1, 3) of two m16n8k32: one 16-byte load feeds both precisions.
// Zero block: word w: row g + 8 (w % 2), byte b: c of group 32 i + 16 (w / 2) + 4 t + b. Rows from n on are zero.
constexpr int kTileRowsSm80 = 128;
constexpr int kStripBytesSm80 = 512;  // half a group of 16 rows
constexpr int kHalfBytesSm80 = 4096;
constexpr int kGroupBytesSm80 = 8320;
constexpr int kParamsAtSm80 = 8192;  // where the parameter bytes of a group block start
constexpr int kZeroBytesSm80 = 4096;

constexpr size_t row_tile_bytes_sm80(int k) {
  return static_cast<size_t>(k / kGroup) * kGroupBytesSm80 + num_zero_blocks(k / kGroup) * kZeroBytesSm80;
}
constexpr size_t packed_weight_bytes_sm80(int n, int k) {
  return static_cast<size_t>(round_up(n, kTileRowsSm80) / kTileRowsSm80) * row_tile_bytes_sm80(k);
}

// Byte of the code of (row, k); odd k in the high nibble.
constexpr size_t weight_offset_sm80(int k_total, int row, int k) {
  const int kg = k % kGroup, lane = row % 8 * 4 + kg % 32 / 8, word = kg % 64 / 32 * 2 + row % 16 / 8;
  return row / kTileRowsSm80 * row_tile_bytes_sm80(k_total) + static_cast<size_t>(k / kGroup) * kGroupBytesSm80 +
         kg / 64 * kHalfBytesSm80 + row % kTileRowsSm80 / 16 * kStripBytesSm80 + lane * 16 + word * 4 + kg % 8 / 2;
}
constexpr size_t weight_params_offset_sm80(int k_total, int row, int group) {
  return row / kTileRowsSm80 * row_tile_bytes_sm80(k_total) + static_cast<size_t>(group) * kGroupBytesSm80 +
         kParamsAtSm80 + row % kTileRowsSm80 / 16 * 16 + row % 8 * 2 + row % 16 / 8;
}
constexpr size_t weight_zero_offset_sm80(int k_total, int row, int group) {
  const int slot = group % kZeroGroups, lane = row % 8 * 4 + slot % 16 / 4, word = slot / 16 * 2 + row % 16 / 8;
  return row / kTileRowsSm80 * row_tile_bytes_sm80(k_total) + static_cast<size_t>(k_total / kGroup) * kGroupBytesSm80 +
         static_cast<size_t>(group / kZeroGroups) * kZeroBytesSm80 + row % kTileRowsSm80 / 16 * kStripBytesSm80 +
         lane * 16 + word * 4 + slot % 4;
}

// ---- Activations: a slab of 64 bytes a token for every step, in fragment order; m is rounded up to a multiple of 16.
//
//   [step][m / 8][lane 32][16 bytes]       lane = 4 * (token % 8) + t, word w
//
//   int8   w = 2 j + odd:  byte b: k = 64 (step % 2) + 32 j + 8 t + 2 b + odd      (mates of the even and odd codes)
//   int4   w:              nibble i: k = 32 w + 8 t + i
//   zero   w:              byte b: high (w < 2) or low part of v of group 32 i + 16 (w % 2) + 4 t + b; 0 for 8-bit
//   groups
//
// multipliers: [k / 128][m padded], used of 4-bit groups. region1_factors, scales, sums: [m].
constexpr int kSlabTokenBytes = 64;
constexpr int kTokenPadSm80 = 16;

constexpr int padded_tokens_sm80(int m) { return round_up(m, kTokenPadSm80); }
constexpr size_t slab_bytes_sm80(int m) { return static_cast<size_t>(padded_tokens_sm80(m)) * kSlabTokenBytes; }
constexpr size_t packed_act_bytes_sm80(const StepsSm80& s, int m) { return s.total * slab_bytes_sm80(m); }

// Byte of word w of lane quarter t for a token, inside a slab.
constexpr size_t slab_offset_sm80(int token, int t, int word) {
  return static_cast<size_t>(token / 8) * 512 + (token % 8 * 4 + t) * 16 + word * 4;
}

// Where a token's part of a step holds something: word of lane quarter t, from this bit on.
struct ActPlaceSm80 {
  int step, t, word, bit;
};
// The code of channel k, 8 or 4 bits.
constexpr ActPlaceSm80 code_place_sm80(const StepsSm80& s, int k) {
  const int group = k / kGroup, kg = k % kGroup, t = kg % 32 / 8, int8_groups = s.int8_steps / 2;
  if (group < int8_groups) return {2 * group + kg / 64, t, kg % 64 / 32 * 2 + kg % 2, kg % 8 / 2 * 8};
  return {s.int8_steps + s.zero_steps + group - int8_groups, t, kg / 32, kg % 8 * 4};
}
// The high byte of v of a 4-bit group; the low one is two words further.
constexpr ActPlaceSm80 zero_place_sm80(const StepsSm80& s, int group) {
  const int slot = group % kZeroGroups;
  return {s.int8_steps + group / kZeroGroups - s.first_zero, slot % 16 / 4, slot / 16, slot % 4 * 8};
}

// v = 128 * high + low, low in 0..127.
constexpr int zero_high(int v) { return v >> 7; }
constexpr int zero_low(int v) { return v & 127; }

}  // namespace comet::cuda
