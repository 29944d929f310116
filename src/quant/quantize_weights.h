// SPDX-License-Identifier: Apache-2.0
// Round-to-nearest of one row of weights into the progressive format; the building block of every recipe.
#pragma once

#include "base/dtype.h"
#include "quant/weights.h"

namespace comet {

// The channel scale of round-to-nearest: max|w| / 119 (a row of zeros: 1). k values.
float channel_scale_rtn(const float* w, int k);

struct GroupParams {
  int s1 = 1;
  int z = 0;
};

// Parameters for a group whose 8-bit values span [low, high] (0 included, -119 <= low <= 0 <= high <= 119).
GroupParams group_params_rtn(int low, int high);

// w[0..k) with a given channel scale -> codes [k/2], s1 [k/128], z [k/128]. k % 128 == 0.
void quantize_row_rtn(const float* w, int k, float channel_scale, uint8_t* codes, uint8_t* group_scales,
                      uint8_t* group_zeros);

}  // namespace comet
