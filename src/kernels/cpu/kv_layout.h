// SPDX-License-Identifier: Apache-2.0
// Byte order of a kv_block in the CPU cache, the same for every ISA. POD only.
//
// A layer's cache is [kv_block][kv head], each entry is what KvLayout describes, from its start:
//
//   K codes        cells [padded_dim / 8][4]:      8 channels, 16 tokens
//   V codes        cells [padded_dim / 64][16][2]: 64 channels, 4 tokens, 32 channels
//   key scales     fp16 [padded_dim / 64][64 tokens]
//   value scales   fp16 [64 tokens]
//   key zeros      u8 [padded_dim / 64][64 tokens]   (4 bits only)
//   value zeros    u8 [64 tokens]                    (4 bits only)
//
// A cell is one zmm register (two for 8 bits: the words of the low nibbles, then those of the high ones). Its 32-bit
// words are what one dot-product step multiplies by one broadcast word of the other operand:
//
//   K cell (channels c..c+7 of tokens t..t+15): word w = token t + w          V cell (channels c..c+31, tokens t..t+3)
//   byte         3      2      1      0                                       word w = channels c + w and c + 16 + w
//   high nibble  c + 7  c + 6  c + 5  c + 4                                   byte i, high nibble: token t + i, channel
//   c + 16 + w low nibble   c + 3  c + 2  c + 1  c                                       byte i, low nibble:  token t +
//   i, channel c + w
//
// No byte belongs to two tokens: append writes whole bytes and never reads. 4-bit codes are stored as they are, 8-bit K
// codes plus 128 (unsigned, zero point 128), 8-bit V codes signed. Slots that no token has been appended to may hold
// anything.
//
// 16 bits: K bf16 [4][padded_dim][16 tokens], then V bf16 [64 tokens][padded_dim].
#pragma once

#include "kernels/attention.h"

namespace comet {

constexpr int kMaxHeadDim = 256;
constexpr int kMaxKeyGroups = kMaxHeadDim / kKeyGroup;
constexpr int kKv8KeyZero = 128;

// Byte offsets inside one (kv_block, kv head).
struct KvLayout {
  int bits, dim;  // dim: padded
  uint32_t v_codes, key_scales, value_scales, key_zeros, value_zeros;
  uint32_t bytes;
};

COMET_HD constexpr KvLayout kv_layout(int bits, int padded_dim) {
  const uint32_t codes = static_cast<uint32_t>(kKvBlock * padded_dim * bits / 8);
  const uint32_t groups = static_cast<uint32_t>(padded_dim / kKeyGroup);
  KvLayout l{bits, padded_dim, codes, 2 * codes, 2 * codes, 2 * codes, 2 * codes, 2 * codes};
  if (bits == 16) return l;
  l.value_scales = l.key_scales + groups * kKvBlock * 2;
  l.key_zeros = l.value_scales + kKvBlock * 2;
  l.value_zeros = l.key_zeros + (bits == 4 ? groups * kKvBlock : 0);
  l.bytes = l.value_zeros + (bits == 4 ? kKvBlock : 0);
  return l;
}

constexpr int kKeyCellChannels = 8, kKeyCellTokens = 16;
constexpr int kValueCellChannels = 32, kValueCellTokens = 4;

COMET_HD constexpr uint32_t kv_cell_bytes(int bits) { return static_cast<uint32_t>(16 * bits); }

// Offset of a code's byte from the start of the K codes or V codes; for 4 bits the nibble is kv_*_is_high.
COMET_HD constexpr uint32_t kv_key_cell(int bits, int token, int channel) {
  return static_cast<uint32_t>(channel / kKeyCellChannels * 4 + token / kKeyCellTokens) * kv_cell_bytes(bits);
}
COMET_HD constexpr bool kv_key_is_high(int channel) { return (channel & 4) != 0; }
COMET_HD constexpr uint32_t kv_key_byte(int bits, int token, int channel) {
  return kv_key_cell(bits, token, channel) + static_cast<uint32_t>(token % kKeyCellTokens * 4 + channel % 4) +
         (bits == 8 && kv_key_is_high(channel) ? 64u : 0u);
}

COMET_HD constexpr uint32_t kv_value_cell(int bits, int token, int channel) {
  const int pair = channel / (2 * kValueCellChannels), half = channel / kValueCellChannels % 2;
  return static_cast<uint32_t>((pair * 16 + token / kValueCellTokens) * 2 + half) * kv_cell_bytes(bits);
}
COMET_HD constexpr bool kv_value_is_high(int channel) { return (channel & 16) != 0; }
COMET_HD constexpr uint32_t kv_value_byte(int bits, int token, int channel) {
  return kv_value_cell(bits, token, channel) + static_cast<uint32_t>(channel % 16 * 4 + token % kValueCellTokens) +
         (bits == 8 && kv_value_is_high(channel) ? 64u : 0u);
}

// Index of a bf16 element from the start of K or V.
COMET_HD constexpr uint32_t kv16_key_index(int dim, int token, int channel) {
  return static_cast<uint32_t>((token / kKeyCellTokens * dim + channel) * kKeyCellTokens + token % kKeyCellTokens);
}
COMET_HD constexpr uint32_t kv16_value_index(int dim, int token, int channel) {
  return static_cast<uint32_t>(token * dim + channel);
}

namespace detail {
// Every code has a nibble of its own, and no byte is shared by two tokens.
constexpr bool kv_codes_are_disjoint(int bits) {
  constexpr int dim = kKeyGroup;
  int16_t key_owner[kKvBlock * dim] = {}, value_owner[kKvBlock * dim] = {};
  uint8_t key_nibbles[kKvBlock * dim] = {}, value_nibbles[kKvBlock * dim] = {};
  for (int t = 0; t < kKvBlock; ++t)
    for (int c = 0; c < dim; ++c) {
      const uint32_t k = kv_key_byte(bits, t, c), v = kv_value_byte(bits, t, c);
      if (k >= static_cast<uint32_t>(kKvBlock * dim * bits / 8) ||
          v >= static_cast<uint32_t>(kKvBlock * dim * bits / 8))
        return false;
      const uint8_t key_nibble = bits == 8 ? 3 : kv_key_is_high(c) ? 2 : 1;
      const uint8_t value_nibble = bits == 8 ? 3 : kv_value_is_high(c) ? 2 : 1;
      if (key_owner[k] != 0 && key_owner[k] != t + 1) return false;
      if (value_owner[v] != 0 && value_owner[v] != t + 1) return false;
      if ((key_nibbles[k] & key_nibble) != 0 || (value_nibbles[v] & value_nibble) != 0) return false;
      key_owner[k] = value_owner[v] = static_cast<int16_t>(t + 1);
      key_nibbles[k] |= key_nibble;
      value_nibbles[v] |= value_nibble;
    }
  return true;
}
static_assert(kv_codes_are_disjoint(4) && kv_codes_are_disjoint(8));
static_assert(kv_layout(4, 64).bytes == 4480 && kv_layout(4, 128).bytes == 8768 && kv_layout(8, 64).bytes == 8448);
}  // namespace detail

}  // namespace comet
