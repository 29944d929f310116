// SPDX-License-Identifier: Apache-2.0
// The KV cache codec: 4 or 8 bits, fp16 scale, integer zero point. POD only.
#pragma once

#include "quant/fp32.h"
#include "quant/weights.h"

namespace comet {

constexpr int kKvBlock = 64;        // token positions of a kv_block, at absolute multiples of 64
constexpr int kKeyGroup = 64;       // channels of K that share a scale; V: the whole head
constexpr int kBlocksPerSplit = 4;  // kv_blocks folded into one split before splits are folded into the row

struct KvGroupParams {
  f16 scale;
  uint8_t zero;    // 0 for kv8
  bool is_finite;  // false: a value or the scale was not finite; codes are then 0
};

// Parameters of n values for 4 bits (unsigned codes with zero point) or 8 bits (symmetric).
COMET_HD KvGroupParams kv_group_params(const float* x, int n, int bits) {
  float lo = 0.0f, hi = 0.0f;
  bool finite = true;
  for (int i = 0; i < n; ++i) {
    finite = finite && is_finite(x[i]);
    lo = x[i] < lo ? x[i] : lo;
    hi = x[i] > hi ? x[i] : hi;
  }
  KvGroupParams p{{0}, 0, finite};
  if (!finite) return p;
  p.scale = bits == 4 ? to_f16((hi - lo) / 15.0f) : to_f16((-lo > hi ? -lo : hi) / 127.0f);
  const float s = to_float(p.scale);
  if (!is_finite(s)) return {{0}, 0, false};
  if (bits == 4 && s > 0.0f) p.zero = static_cast<uint8_t>(clampf(rne(-lo / s), 0.0f, 15.0f));
  return p;
}

// One code: 0..15 for 4 bits, -127..127 for 8 bits.
COMET_HD int kv_encode(float x, const KvGroupParams& p, int bits) {
  const float s = to_float(p.scale);
  if (!(s > 0.0f)) return 0;
  if (bits == 4) return static_cast<int>(clampf(rne(x / s) + static_cast<float>(p.zero), 0.0f, 15.0f));
  return static_cast<int>(clampf(rne(x / s), -127.0f, 127.0f));
}

}  // namespace comet
