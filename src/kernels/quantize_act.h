// SPDX-License-Identifier: Apache-2.0
// quantize_act: (nothing | RMSNorm | SiLU-mul) -> permute -> rotate -> quantize, one op by definition. POD only.
#pragma once

#include <math.h>

#include "quant/activations.h"

namespace comet {

enum class ActSource : uint8_t {
  f32,       // x: f32 [*, k_in]
  bf16,      // x: bf16 [*, k_in]
  rms_norm,  // x: f32 [*, k_in] residual; the row is (x * inv) * gain
  silu_mul,  // x: bf16 [*, 2 * k_in], gate then up; the row is silu(gate) * up
};

struct QuantizeActProblem {
  int m = 0;
  ActFormat format;
  ActSource source = ActSource::f32;
};

struct QuantizeActArgs {
  const void* x = nullptr;
  const int32_t* row_ids = nullptr;  // [m] rows of x to take; null: 0..m-1
  const void* gain = nullptr;        // rms_norm: [k_in]
  DType gain_dtype = DType::f32;     // f32, bf16 or f16
  float eps = 0.0f;                  // rms_norm
  const int32_t* perm = nullptr;     // [k] input channel, -1 = padding (0); null: identity, k >= k_in
  QuantizedActs out;
  // [m]: set to error_tag where a row holds a non-finite value and no tag is set yet; such a row gets codes 0, scale 0.
  uint32_t* row_errors = nullptr;
  uint32_t error_tag = 0;  // non-zero; names layer and site to the runner
};

// Scales of one token from the maxima of its regions; the heart of the op, shared by all backends.
//   amax1, amax2: max |x| of the regions (0 for an empty one). rmax: max_region1_factor(format).
struct TokenScales {
  float sx;  // 0: every code is 0
  int r;
};

COMET_HD TokenScales token_scales(float amax1, float amax2, float clip1, float clip2, int limit2, int rmax) {
  const float a1 = amax1 < 0x1p-100f ? 0.0f : amax1, a2 = amax2 < 0x1p-100f ? 0.0f : amax2;
  const float d1 = (clip1 * a1) / 127.0f, d2 = (clip2 * a2) / static_cast<float>(limit2);
  const float floor1 = d1 / static_cast<float>(rmax);
  TokenScales s{d2 > floor1 ? d2 : floor1, 1};
  if (s.sx > 0.0f) {
    const float r = ceilf(d1 / s.sx);
    s.r = static_cast<int>(r < 1.0f ? 1.0f : (r > static_cast<float>(rmax) ? static_cast<float>(rmax) : r));
  }
  return s;
}

// Multiplier of a 4-bit group; amax_group is 0 when region 2 counts as zero.
COMET_HD int group_multiplier(float amax_group, float clip2, float sx) {
  const float m = ceilf((clip2 * amax_group) / (7.0f * sx));
  return static_cast<int>(m < 1.0f ? 1.0f : (m > 17.0f ? 17.0f : m));
}

}  // namespace comet
