// SPDX-License-Identifier: Apache-2.0
// Byte order of packed weights, the same for every CPU kernel: panels of 16 output channels, read front to back as
// one stream. Channels past n are zero. POD only.
//
// One w4ax panel, G = k / 128 groups:
//
//   | params of group 0: 16 B | .. | of group G-1 | zeros up to 64 B | codes of group 0: 1024 B | .. | of group G-1 |
//     byte c: channel c, (s1 - 1) << 4 | z
//
//   codes of a group: 16 lines of 64 B; line j holds k = 8j .. 8j+7 of the group for all 16 channels
//
//   byte    0        1        2        3        4        ..   60 + b
//   channel 0        0        0        0        1        ..   15
//   7..4    k=8j+4   k=8j+5   k=8j+6   k=8j+7   k=8j+4   ..   k=8j+4+b
//   3..0    k=8j     k=8j+1   k=8j+2   k=8j+3   k=8j     ..   k=8j+b
//
// so each half of a line, masked, is 16 dwords of four unsigned codes of consecutive k: an operand of vpdpbusd, or
// two of vpmaddubsw, against one broadcast dword of activations.
//
// One w8a8 panel: k / 4 lines of 64 B; line j holds k = 4j .. 4j+3, byte 4c + b: channel c, k = 4j + b, s8.
#pragma once

#include "quant/weights.h"

namespace comet {

constexpr int kPanel = 16;  // output channels of a panel: dwords of a 64-byte line
constexpr int kLineBytes = 64;

constexpr size_t w4ax_params_bytes(int k) { return static_cast<size_t>(round_up(k / kGroup * kPanel, kLineBytes)); }
constexpr size_t w4ax_panel_bytes(int k) { return w4ax_params_bytes(k) + static_cast<size_t>(k) * kPanel / 2; }
constexpr size_t w8_panel_bytes(int k) { return static_cast<size_t>(k) * kPanel; }

// Where the code of (channel of the panel, k) lies in a w4ax panel, and the parameters of (channel, group).
constexpr size_t w4ax_code_byte(int k_total, int channel, int k) {
  return w4ax_params_bytes(k_total) + static_cast<size_t>(k / 8) * kLineBytes +
         static_cast<size_t>(channel * 4 + k % 4);
}
constexpr int w4ax_code_shift(int k) { return k / 4 % 2 * 4; }
constexpr size_t w4ax_params_byte(int channel, int group) { return static_cast<size_t>(group * kPanel + channel); }
constexpr size_t w8_code_byte(int channel, int k) {
  return static_cast<size_t>(k / 4) * kLineBytes + static_cast<size_t>(channel * 4 + k % 4);
}

static_assert(w4ax_code_byte(128, 15, 127) == w4ax_panel_bytes(128) - 1 && w4ax_code_shift(127) == 4);
static_assert(w4ax_code_byte(128, 0, 0) == 64 && w4ax_code_byte(128, 0, 4) == 64 && w4ax_code_shift(4) == 4);
static_assert(w8_code_byte(15, 127) == w8_panel_bytes(128) - 1);

// Canonical order -> panels. `packed` holds num_panels(n) panels, zero-filled.
constexpr int num_panels(int n) { return (n + kPanel - 1) / kPanel; }
void pack_w4ax_panel(const W4axWeights& w, int panel, uint8_t* packed);
void pack_w8_panel(const W8Weights& w, int panel, uint8_t* packed);

}  // namespace comet
