// SPDX-License-Identifier: Apache-2.0
// The vector operations that attention_tile_body.h and rope_append_body.h are written in: 8 lanes of AVX2.
#pragma once

#include <immintrin.h>

#include "base/dtype.h"

namespace comet::avx2 {

struct Simd {
  static constexpr int kLanes = 8;
  using Float = __m256;
  using Int = __m256i;
  using Mask = __m256;  // all bits of a lane

  COMET_HD Float set(float x) { return _mm256_set1_ps(x); }
  COMET_HD Float load(const float* p) { return _mm256_loadu_ps(p); }
  COMET_HD void store(float* p, Float x) { _mm256_storeu_ps(p, x); }
  COMET_HD Float load_f16(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  COMET_HD Float widen_bf16(__m128i words) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16));
  }
  COMET_HD Float load_bf16(const uint16_t* p) {
    return widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }

  // The lanes whose index is below n; n may be negative or above 8. (load_first, store_first: n >= 1.)
  COMET_HD Mask first_lanes(int n) {
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
  }
  COMET_HD Float select(Mask m, Float yes, Float no) { return _mm256_blendv_ps(no, yes, m); }
  COMET_HD Mask is_less(Float a, Float b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
  COMET_HD Float load_first(const float* p, int n) {
    return _mm256_maskload_ps(p, _mm256_castps_si256(first_lanes(n)));
  }
  COMET_HD Float load_first_bf16(const uint16_t* p, int n) {
    if (n >= 8) return load_bf16(p);
    alignas(16) uint16_t words[8] = {};
    __builtin_memcpy(words, p, static_cast<size_t>(n) * sizeof(uint16_t));
    return load_bf16(words);
  }
  COMET_HD void store_first(float* p, Float x, int n) {
    _mm256_maskstore_ps(p, _mm256_castps_si256(first_lanes(n)), x);
  }

  COMET_HD Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  COMET_HD Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
  COMET_HD Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  COMET_HD Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
  COMET_HD Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  COMET_HD Float max(Float a, Float b) { return _mm256_max_ps(a, b); }  // b where either is NaN
  COMET_HD Float min(Float a, Float b) { return _mm256_min_ps(a, b); }
  COMET_HD Float abs(Float a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  COMET_HD Float round(Float a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

  COMET_HD Int bits(Float a) { return _mm256_castps_si256(a); }
  COMET_HD Float from_bits(Int a) { return _mm256_castsi256_ps(a); }
  COMET_HD Int set_int(int x) { return _mm256_set1_epi32(x); }
  COMET_HD Int add_int(Int a, Int b) { return _mm256_add_epi32(a, b); }
  COMET_HD Int and_int(Int a, Int b) { return _mm256_and_si256(a, b); }
  COMET_HD Int shift_left_23(Int a) { return _mm256_slli_epi32(a, 23); }
  COMET_HD Int shift_right_16(Int a) { return _mm256_srli_epi32(a, 16); }
  COMET_HD Int round_to_int(Float a) { return _mm256_cvtps_epi32(a); }
  COMET_HD Float to_float(Int a) { return _mm256_cvtepi32_ps(a); }
  COMET_HD bool any_not_finite(Float a) {
    const Int exponent = set_int(0x7f800000);
    return _mm256_movemask_epi8(_mm256_cmpeq_epi32(and_int(bits(a), exponent), exponent)) != 0;
  }

  // The low 16 bits / low 8 bits of each lane, in order.
  COMET_HD void store_16(uint16_t* p, Int a) {
    const Int packed = _mm256_packus_epi32(and_int(a, set_int(0xffff)), _mm256_setzero_si256());
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
  }
  COMET_HD void store_8(int8_t* p, Int a) {
    const Int bytes = _mm256_shuffle_epi8(a, _mm256_set1_epi32(0x0c080400));
    const int low = _mm256_cvtsi256_si32(bytes), high = _mm256_extract_epi32(bytes, 4);
    __builtin_memcpy(p, &low, 4);
    __builtin_memcpy(p + 4, &high, 4);
  }

  // 64 values 0..255 as bytes; word t/4 of the tokens lands at word_index(t/4), which costs no lane crossing.
  COMET_HD void store_words(uint8_t* p, const Int* v) {
    for (int half = 0; half < 2; ++half) {
      const Int low = _mm256_packs_epi32(v[4 * half], v[4 * half + 1]),
                high = _mm256_packs_epi32(v[4 * half + 2], v[4 * half + 3]);
      _mm256_store_si256(reinterpret_cast<__m256i*>(p + 32 * half), _mm256_packus_epi16(low, high));
    }
  }
  static constexpr int word_index(int word) { return word / 8 * 8 + word % 2 * 4 + word % 8 / 2; }

  struct Max {
    COMET_HD __m256 apply(__m256 a, __m256 b) { return _mm256_max_ps(a, b); }
  };
  struct Sum {
    COMET_HD __m256 apply(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
  };
  struct IntSum {
    COMET_HD __m256 apply(__m256 a, __m256 b) {
      return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
    }
  };

  // Lanes i and i + 4, then 2, 1.
  template <class Op>
  COMET_HD float fold(Float a) {
    a = Op::apply(a, _mm256_permute2f128_ps(a, a, 0x01));
    a = Op::apply(a, _mm256_permute_ps(a, 0x4e));
    a = Op::apply(a, _mm256_permute_ps(a, 0xb1));
    return _mm256_cvtss_f32(a);
  }
  COMET_HD float max_lane(Float a) { return fold<Max>(a); }
  COMET_HD float min_lane(Float a) { return -fold<Max>(sub(set(-0.0f), a)); }
  COMET_HD float halving_sum(Float a) { return fold<Sum>(a); }

  // out[r] = all lanes of v[r] folded, in an order of its own: for maxima and exact sums. Writes 8 results.
  template <class Op>
  COMET_HD void fold_lanes(const float (*v)[kLanes], int rows, float* out) {
    if (rows == 1) {
      out[0] = fold<Op>(_mm256_load_ps(v[0]));
      return;
    }
    Float pair[4], quad[2];
    for (int i = 0; i < 4; ++i) {
      const Float a = _mm256_load_ps(v[2 * i]), b = _mm256_load_ps(v[2 * i + 1]);
      pair[i] = Op::apply(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
    }
    for (int i = 0; i < 2; ++i)
      quad[i] = Op::apply(_mm256_shuffle_ps(pair[2 * i], pair[2 * i + 1], 0x44),
                          _mm256_shuffle_ps(pair[2 * i], pair[2 * i + 1], 0xee));
    // quad[i], 128-bit half h: words {0, 1} of row 4i + h, words {2, 3} of row 4i + 2 + h
    const Float all = Op::apply(_mm256_shuffle_ps(quad[0], quad[1], 0x88), _mm256_shuffle_ps(quad[0], quad[1], 0xdd));
    // half h: rows h, 2 + h, 4 + h, 6 + h
    _mm256_storeu_ps(out, _mm256_permutevar8x32_ps(all, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
  }

  // (u + v, u - v) of the lane pairs whose indices differ in bit `stride`.
  template <int kStride>
  COMET_HD Float butterfly(Float x) {
    Float other;
    if constexpr (kStride == 1) other = _mm256_permute_ps(x, 0xb1);
    if constexpr (kStride == 2) other = _mm256_permute_ps(x, 0x4e);
    if constexpr (kStride == 4) other = _mm256_permute2f128_ps(x, x, 0x01);
    constexpr int upper = kStride == 1 ? 0xaa : kStride == 2 ? 0xcc : 0xf0;
    return _mm256_blend_ps(_mm256_add_ps(x, other), _mm256_sub_ps(other, x), upper);
  }
};

}  // namespace comet::avx2
