// SPDX-License-Identifier: Apache-2.0
// Embedding, norm, activation and the check of logits on vectors; V is a Vec of one ISA. Only for ISA files.
#pragma once

#include "kernels/cpu/quantize_act_rows.h"

namespace comet {

template <class V>
static inline void embed(const EmbedArgs& a, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    float* out = a.out + t * a.hidden;
    const int64_t at = static_cast<int64_t>(a.ids[t]) * a.hidden;
    switch (a.table_dtype) {
      case DType::bf16: widen_row<V>(static_cast<const bf16*>(a.table) + at, a.hidden, out); break;
      case DType::f16: widen_row<V>(static_cast<const f16*>(a.table) + at, a.hidden, out); break;
      default: widen_row<V>(static_cast<const float*>(a.table) + at, a.hidden, out); break;
    }
  }
}

template <class V>
static inline void rms_norm(const RmsNormArgs& a, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const float* x = a.x + (a.row_ids != nullptr ? a.row_ids[t] : t) * a.hidden;
    rms_norm_row<V>(x, a.gain, a.gain_dtype, a.eps, a.hidden, a.out + t * a.hidden);
  }
}

template <class V>
static inline void silu_mul(const SiluMulArgs& a, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const float* gate = a.gate_up + t * 2 * a.width;
    silu_mul_row<V>(gate, gate + a.width, a.width, a.out + t * a.width);
  }
}

template <class V>
static inline void check_finite(const CheckFiniteArgs& a, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const float* x = a.x + t * a.n;
    auto top = V::set(0);
    for (int i = 0; i < a.n; i += V::kLanes)
      top = V::max_unsigned(top, V::bit_and(V::bits(load_some<V>(x + i, a.n - i)), V::set(0x7fffffff)));
    if (V::max_unsigned(top) >= 0x7f800000u && a.row_errors[t] == 0) a.row_errors[t] = a.error_tag;
  }
}

}  // namespace comet
