// SPDX-License-Identifier: Apache-2.0
// Byte order of packed weights, the same for every CPU kernel: panels of 16 output channels, read front to back as
// one stream. Channels past n are zero. POD only.
//
// One w4ax panel: four groups of k / 128 after another, the last four perhaps fewer:
//
//   | params of groups 0..3: 64 B | codes of group 0: 1024 B | .. | of group 3 | params of groups 4..7 | ..
//     byte 16 i + c: group i of the four, channel c: (s1 - 1) << 4 | z
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

constexpr int kGroupsPerLine = kLineBytes / kPanel;  // whose parameters share a line
constexpr size_t kGroupCodeBytes = size_t{kGroup} * kPanel / 2;

constexpr size_t w4ax_panel_bytes(int k) {
  const size_t groups = static_cast<size_t>(k / kGroup);
  return (groups + kGroupsPerLine - 1) / kGroupsPerLine * kLineBytes + groups * kGroupCodeBytes;
}
constexpr size_t w8_panel_bytes(int k) { return static_cast<size_t>(k) * kPanel; }

// Where the parameters of (channel of the panel, group) and the code of (channel, k) lie in a w4ax panel.
constexpr size_t w4ax_params_byte(int channel, int group) {
  const size_t before = static_cast<size_t>(group / kGroupsPerLine) * (kLineBytes + kGroupsPerLine * kGroupCodeBytes);
  return before + static_cast<size_t>(group % kGroupsPerLine * kPanel + channel);
}
constexpr size_t w4ax_code_byte(int channel, int k) {
  const size_t group = static_cast<size_t>(k / kGroup);
  return (group / kGroupsPerLine + 1) * kLineBytes + group * kGroupCodeBytes +
         static_cast<size_t>(k % kGroup / 8 * kLineBytes + channel * 4 + k % 4);
}
constexpr int w4ax_code_shift(int k) { return k / 4 % 2 * 4; }
constexpr size_t w8_code_byte(int channel, int k) {
  return static_cast<size_t>(k / 4) * kLineBytes + static_cast<size_t>(channel * 4 + k % 4);
}

static_assert(w4ax_code_byte(15, 127) == w4ax_panel_bytes(128) - 1 && w4ax_code_shift(127) == 4);
static_assert(w4ax_code_byte(15, 767) == w4ax_panel_bytes(768) - 1 && w4ax_params_byte(0, 4) == 64 + 4096);
static_assert(w4ax_code_byte(0, 0) == 64 && w4ax_code_byte(0, 4) == 64 && w4ax_code_shift(4) == 4);
static_assert(w8_code_byte(15, 127) == w8_panel_bytes(128) - 1);

// Canonical order -> panels. `packed` holds num_panels(n) panels, zero-filled.
constexpr int num_panels(int n) { return (n + kPanel - 1) / kPanel; }
void pack_w4ax_panel(const W4axWeights& w, int panel, uint8_t* packed);
void pack_w8_panel(const W8Weights& w, int panel, uint8_t* packed);

}  // namespace comet
