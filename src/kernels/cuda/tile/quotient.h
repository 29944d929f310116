// SPDX-License-Identifier: Apache-2.0
// x / d of silu without the division's slow path. POD only: a test holds it to x / d on the host.
#pragma once

#include <math.h>

#include "base/dtype.h"

namespace comet::cuda {

// x / d rounded to nearest even for d = 1 + 2^p and the gates that silu_plain takes, from 1 / d with an error of at
// most kReciprocalUlps: GPUs differ in their approximate reciprocal. Not too small a reciprocal is right for all gates
// after two corrections, a smaller one is not for 2^-23 (whose d is all ones).
constexpr uint32_t kReciprocalUlps = 4;
COMET_HD float quotient(float x, float d, float inverse) {
  const float above = float_from_bits(float_bits(inverse) + kReciprocalUlps);
  float q = x * above;
  q = fmaf(fmaf(-d, q, x), above, q);
  return fmaf(fmaf(-d, q, x), above, q);
}

}  // namespace comet::cuda
