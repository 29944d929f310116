// SPDX-License-Identifier: Apache-2.0
// Byte orders of weights and activations for Hopper, written once for packers, kernels and tests. POD only.
#pragma once

#include "quant/activations.h"

namespace comet::cuda {

// ---- Weights: units of 16 rows (a strip) x 1 group. All strips of a group lie together, then comes the next group, so
// that CTAs which are at about the same k read neighbours: DRAM gives several percent more than to streams far apart.
//
//   [k / 128][n / 16, rounded up to 8][unit]
//
// So rows of a layer are not a layer of their own by an offset alone: the step from group to group is the layer's.
//
//   4-bit unit, 1040 bytes:   codes [half 0..1][lane 0..31][16 bytes] | parameter bytes [pair 0..7]{row g, row g + 8}
//   8-bit unit, 2048 bytes:   codes [quarter 0..3][lane 0..31][16 bytes]
//
// Lane l of a warp has g = l / 4, t = l % 4. A unit is the register operand of mma.m16n8k32 and of one warp's part of
// wgmma.m64nNk32 for four steps of k = 32:
//
//   word w = 0..7 of a lane (4-bit): byte b holds k = 32 (w / 2) + 16 (w % 2) + 4 t + b of two rows,
//        bits 3..0 row g,  bits 7..4 row g + 8:   two masks and a shift give the registers a0/a2 and a1/a3
//   word w = 0..15 (8-bit): row g + 8 (w % 2), byte b holds k = 32 (w / 4) + 16 ((w / 2) % 2) + 4 t + b
//
// A stage of the GEMM (128 rows x 1 group) is one bulk copy, and the gemv can deal rows to SMs in sixteens. Rows from n
// to the next multiple of 128 are zero.
constexpr int kStripRows = 16;
constexpr int kUnitBytesW4 = 1040;
constexpr int kUnitBytesW8 = 2048;
constexpr int kUnitParamsW4 = 1024;  // where the parameter bytes start

constexpr int kBlockStrips = 8;

constexpr int num_strips(int n) { return (n + kStripRows - 1) / kStripRows; }
constexpr int num_packed_strips(int n) { return round_up(num_strips(n), kBlockStrips); }

constexpr size_t packed_weight_bytes(int n, int k, int unit_bytes) {
  return static_cast<size_t>(num_packed_strips(n)) * (k / kGroup) * unit_bytes;
}

// Position of a unit among all of them.
constexpr size_t unit_index(int n, int strip, int group) {
  return static_cast<size_t>(group) * num_packed_strips(n) + strip;
}

// ---- Activations: for each group, blocks of 8 tokens; a block is 1024 bytes. m is rounded up to a multiple of 8.
//
//   tiles_sm90:     token r of the block is a row of 128 bytes; its 16-byte piece c lies at piece c ^ r (the 128-byte
//                   swizzle of wgmma's shared operand), so that any run of blocks of a group is a tile
//   fragments_sm90: the column operand of mma.m16n8k32: [half 0..1][lane][16 bytes], lane = 4 r + t; word w = 0..7 of a
//                   lane: byte b holds k = 32 (w / 2) + 16 (w % 2) + 4 t + b. For the gemv, of up to kMaxGemvTokens
//
// The plan of a GEMM says which (GemmPlan::act_layout).
//
// The arrays region1_factors, scales and sums are padded to a multiple of 8 tokens. multipliers and group_sums are not
// written: the main loop needs neither.
constexpr int kMaxGemvTokens = 16;
constexpr int kBlockTokens = 8;
constexpr int kBlockBytes = kBlockTokens * kGroup;

constexpr int padded_tokens(int m) { return round_up(m, kBlockTokens); }

// Byte of token t, channel k in QuantizedActs::values of m tokens.
constexpr size_t activation_offset_sm90(ActLayout layout, int m, int t, int k) {
  const int row = t % kBlockTokens, kg = k % kGroup;
  const size_t block = (static_cast<size_t>(k / kGroup) * padded_tokens(m) + (t - row)) * kGroup;
  if (layout == ActLayout::tiles_sm90) return block + row * kGroup + (((kg / 16) ^ row) * 16) + kg % 16;
  const int word = kg / 32 * 2 + kg / 16 % 2, lane = row * 4 + kg % 16 / 4;
  return block + word / 4 * 512 + lane * 16 + word % 4 * 4 + kg % 4;
}

// Byte of the code of (row, k), and whether it is the high nibble, inside packed 4-bit weights.
constexpr size_t weight_offset_w4(int n, int row, int k) {
  const int kg = k % kGroup, word = kg / 32 * 2 + kg / 16 % 2, lane = row % 8 * 4 + kg % 16 / 4;
  const size_t unit = unit_index(n, row / kStripRows, k / kGroup) * kUnitBytesW4;
  return unit + word / 4 * 512 + lane * 16 + word % 4 * 4 + kg % 4;
}
constexpr bool weight_is_high_w4(int row) { return row % kStripRows >= 8; }

constexpr size_t weight_params_offset_w4(int n, int row, int group) {
  return unit_index(n, row / kStripRows, group) * kUnitBytesW4 + kUnitParamsW4 + row % 8 * 2 + row % kStripRows / 8;
}

constexpr size_t weight_offset_w8(int n, int row, int k) {
  const int kg = k % kGroup, word = kg / 32 * 4 + kg / 16 % 2 * 2 + row % kStripRows / 8,
            lane = row % 8 * 4 + kg % 16 / 4;
  const size_t unit = unit_index(n, row / kStripRows, k / kGroup) * kUnitBytesW8;
  return unit + word / 4 * 512 + lane * 16 + word % 4 * 4 + kg % 4;
}

}  // namespace comet::cuda
