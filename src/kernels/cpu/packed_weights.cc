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
    const uint8_t* codes = w.codes + row * (w.k / 2);
    for (int k = 0; k < w.k; ++k) {
      const int code = unpack_nibble(codes, k) << w4ax_code_shift(k);
      packed[w4ax_code_byte(c, k)] = static_cast<uint8_t>(packed[w4ax_code_byte(c, k)] | code);
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
