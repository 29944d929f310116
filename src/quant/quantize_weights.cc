// SPDX-License-Identifier: Apache-2.0
#include "quant/quantize_weights.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "quant/fp32.h"

namespace comet {

float channel_scale_rtn(const float* w, int k) {
  float amax = 0.0f;
  for (int i = 0; i < k; ++i) amax = std::max(amax, std::fabs(w[i]));
  const float scale = amax / 119.0f;
  return scale > 0.0f ? scale : 1.0f;
}

GroupParams group_params_rtn(int low, int high) {
  COMET_CHECK(low <= 0 && high >= 0, "group range {}..{}", low, high);
  GroupParams p;
  p.s1 = std::max(1, (high - low + 14) / 15);
  const int z = static_cast<int>(rne(static_cast<float>(-low) / static_cast<float>(p.s1)));
  p.z = std::clamp(z, min_group_zero(p.s1), max_group_zero(p.s1));
  return p;
}

void quantize_row_rtn(const float* w, int k, float channel_scale, uint8_t* codes, uint8_t* group_scales,
                      uint8_t* group_zeros) {
  COMET_CHECK(k % kGroup == 0, "k = {}", k);
  for (int g = 0; g < k / kGroup; ++g) {
    float w1[kGroup];
    float low = 0.0f, high = 0.0f;
    for (int i = 0; i < kGroup; ++i) {
      w1[i] = clampf(rne(w[g * kGroup + i] / channel_scale), -119.0f, 119.0f);
      low = std::min(low, w1[i]);
      high = std::max(high, w1[i]);
    }
    const GroupParams p = group_params_rtn(static_cast<int>(low), static_cast<int>(high));
    group_scales[g] = static_cast<uint8_t>(p.s1);
    group_zeros[g] = static_cast<uint8_t>(p.z);
    auto code = [&](int i) {
      const float q = rne(w1[i] / static_cast<float>(p.s1)) + static_cast<float>(p.z);
      return static_cast<int>(clampf(q, 0.0f, 15.0f));
    };
    for (int i = 0; i < kGroup; i += 2) codes[(g * kGroup + i) / 2] = pack_nibbles(code(i), code(i + 1));
  }
}

}  // namespace comet
