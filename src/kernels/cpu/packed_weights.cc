// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/packed_weights.h"

#include <algorithm>

namespace comet {

void pack_w4ax_panel(const W4axWeights& w, int panel, uint8_t* packed) {
  const int groups = w.k / kGroup;
  for (int c = 0; c < std::min(kPanel, w.n - panel * kPanel); ++c) {
    const size_t row = static_cast<size_t>(panel) * kPanel + c;
    for (int g = 0; g < groups; ++g)
      packed[w4ax_params_byte(c, g)] =
          pack_group_params(w.group_scales[row * groups + g], w.group_zeros[row * groups + g]);
    const uint8_t* in = w.codes + row * (w.k / 2);  // nibbles k = 0 1, 2 3, 4 5, 6 7 in four bytes
    for (int k = 0; k < w.k; k += 8, in += 4) {     // become 0 4, 1 5, 2 6, 3 7
      uint8_t* out = packed + w4ax_code_byte(c, k);
      out[0] = static_cast<uint8_t>((in[0] & 15) | (in[2] << 4));
      out[1] = static_cast<uint8_t>((in[0] >> 4) | (in[2] & 0xf0));
      out[2] = static_cast<uint8_t>((in[1] & 15) | (in[3] << 4));
      out[3] = static_cast<uint8_t>((in[1] >> 4) | (in[3] & 0xf0));
    }
  }
}

void pack_w8_panel(const W8Weights& w, int panel, uint8_t* packed) {
  for (int c = 0; c < std::min(kPanel, w.n - panel * kPanel); ++c) {
    const int8_t* codes = w.codes + (static_cast<size_t>(panel) * kPanel + c) * w.k;
    for (int k = 0; k < w.k; k += 4) memcpy(packed + w8_code_byte(c, k), codes + k, 4);
  }
}

}  // namespace comet
