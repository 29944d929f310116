// SPDX-License-Identifier: Apache-2.0
// The vector operations that attention_tile_body.h and rope_append_body.h are written in: 16 lanes of AVX-512.
#pragma once

#include <immintrin.h>

#include "base/dtype.h"

namespace comet::avx512vnni {

struct Simd {
  static constexpr int kLanes = 16;
  using Float = __m512;
  using Int = __m512i;
  using Mask = __mmask16;

  COMET_HD Float set(float x) { return _mm512_set1_ps(x); }
  COMET_HD Float load(const float* p) { return _mm512_loadu_ps(p); }
  COMET_HD void store(float* p, Float x) { _mm512_storeu_ps(p, x); }
  COMET_HD Float load_f16(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  COMET_HD Float load_bf16(const uint16_t* p) {
    const Int words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
  }

  // The lanes whose index is below n; n may be negative or above 16. (load_first, store_first: n >= 1.)
  COMET_HD Mask first_lanes(int n) {
    return static_cast<Mask>(_bzhi_u32(0xffffu, n < 0 ? 0u : n > 16 ? 16u : static_cast<unsigned>(n)));
  }
  COMET_HD Float select(Mask m, Float yes, Float no) { return _mm512_mask_blend_ps(m, no, yes); }
  COMET_HD Mask is_less(Float a, Float b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  COMET_HD Float load_first(const float* p, int n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
  COMET_HD Float load_first_bf16(const uint16_t* p, int n) {
    const Int words = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(n), p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
  }
  COMET_HD void store_first(float* p, Float x, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), x); }

  COMET_HD Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  COMET_HD Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
  COMET_HD Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  COMET_HD Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
  COMET_HD Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  COMET_HD Float max(Float a, Float b) { return _mm512_max_ps(a, b); }  // b where either is NaN
  COMET_HD Float min(Float a, Float b) { return _mm512_min_ps(a, b); }
  COMET_HD Float abs(Float a) { return _mm512_abs_ps(a); }
  COMET_HD Float round(Float a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

  COMET_HD Int bits(Float a) { return _mm512_castps_si512(a); }
  COMET_HD Float from_bits(Int a) { return _mm512_castsi512_ps(a); }
  COMET_HD Int set_int(int x) { return _mm512_set1_epi32(x); }
  COMET_HD Int add_int(Int a, Int b) { return _mm512_add_epi32(a, b); }
  COMET_HD Int and_int(Int a, Int b) { return _mm512_and_si512(a, b); }
  COMET_HD Int shift_left_23(Int a) { return _mm512_slli_epi32(a, 23); }
  COMET_HD Int shift_right_16(Int a) { return _mm512_srli_epi32(a, 16); }
  COMET_HD Int round_to_int(Float a) { return _mm512_cvtps_epi32(a); }
  COMET_HD Float to_float(Int a) { return _mm512_cvtepi32_ps(a); }
  COMET_HD bool any_not_finite(Float a) {
    const Int exponent = set_int(0x7f800000);
    return _mm512_cmpeq_epi32_mask(and_int(bits(a), exponent), exponent) != 0;
  }

  // The low 16 bits / low 8 bits of each lane, in order.
  COMET_HD void store_16(uint16_t* p, Int a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(a));
  }
  COMET_HD void store_8(int8_t* p, Int a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a)); }

  // 64 values 0..255 as bytes; word t/4 of the tokens lands at word_index(t/4), which costs no lane crossing.
  COMET_HD void store_words(uint8_t* p, const Int* v) {
    const Int low = _mm512_packs_epi32(v[0], v[1]), high = _mm512_packs_epi32(v[2], v[3]);
    _mm512_store_si512(p, _mm512_packus_epi16(low, high));
  }
  static constexpr int word_index(int word) { return word % 4 * 4 + word / 4; }

  COMET_HD float max_lane(Float a) {
    a = max(a, _mm512_shuffle_f32x4(a, a, 0x4e));
    a = max(a, _mm512_shuffle_f32x4(a, a, 0xb1));
    a = max(a, _mm512_permute_ps(a, 0x4e));
    a = max(a, _mm512_permute_ps(a, 0xb1));
    return _mm512_cvtss_f32(a);
  }
  COMET_HD float min_lane(Float a) { return -max_lane(sub(set(-0.0f), a)); }

  // lanes i and i + 8, then 4, 2, 1.
  COMET_HD float halving_sum(Float a) {
    a = add(a, _mm512_shuffle_f32x4(a, a, 0x4e));
    a = add(a, _mm512_shuffle_f32x4(a, a, 0xb1));
    a = add(a, _mm512_permute_ps(a, 0x4e));
    a = add(a, _mm512_permute_ps(a, 0xb1));
    return _mm512_cvtss_f32(a);
  }

  struct Max {
    COMET_HD __m512 apply(__m512 a, __m512 b) { return _mm512_max_ps(a, b); }
  };
  struct Sum {
    COMET_HD __m512 apply(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
  };
  struct IntSum {
    COMET_HD __m512 apply(__m512 a, __m512 b) {
      return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
    }
  };

  // out[r] = all lanes of v[r] folded, in an order of its own: for maxima and exact sums. Writes 8 results.
  template <class Op>
  COMET_HD void fold_lanes(const float (*v)[kLanes], int rows, float* out) {
    if (rows == 1) {
      Float a = _mm512_load_ps(v[0]);
      a = Op::apply(a, _mm512_shuffle_f32x4(a, a, 0x4e));
      a = Op::apply(a, _mm512_shuffle_f32x4(a, a, 0xb1));
      a = Op::apply(a, _mm512_permute_ps(a, 0x4e));
      a = Op::apply(a, _mm512_permute_ps(a, 0xb1));
      out[0] = _mm512_cvtss_f32(a);
      return;
    }
    Float pair[4], quad[2];
    for (int i = 0; i < 4; ++i) {
      const Float a = _mm512_load_ps(v[2 * i]), b = _mm512_load_ps(v[2 * i + 1]);
      pair[i] = Op::apply(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    }
    for (int i = 0; i < 2; ++i) {
      const Float a = pair[2 * i], b = pair[2 * i + 1];
      quad[i] = Op::apply(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    }
    // lane 4i + {0, 1}: row i; lane 4i + {2, 3}: row 4 + i
    Float all = Op::apply(_mm512_shuffle_ps(quad[0], quad[1], 0x44), _mm512_shuffle_ps(quad[0], quad[1], 0xee));
    all = Op::apply(all, _mm512_permute_ps(all, 0xb1));
    const Int order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm256_storeu_ps(out, _mm512_castps512_ps256(_mm512_permutexvar_ps(order, all)));
  }

  // (u + v, u - v) of the lane pairs whose indices differ in bit `stride`.
  template <int kStride>
  COMET_HD Float butterfly(Float x) {
    Float other;
    Mask upper;
    if constexpr (kStride == 1) other = _mm512_permute_ps(x, 0xb1), upper = 0xaaaa;
    if constexpr (kStride == 2) other = _mm512_permute_ps(x, 0x4e), upper = 0xcccc;
    if constexpr (kStride == 4) other = _mm512_shuffle_f32x4(x, x, 0xb1), upper = 0xf0f0;
    if constexpr (kStride == 8) other = _mm512_shuffle_f32x4(x, x, 0x4e), upper = 0xff00;
    return _mm512_mask_sub_ps(_mm512_add_ps(x, other), upper, other, x);
  }
};

}  // namespace comet::avx512vnni
