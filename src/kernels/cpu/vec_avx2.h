// SPDX-License-Identifier: Apache-2.0
// Eight fp32 or int32 lanes, for the row kernels that are written once for every ISA. Only for *_avx2.cc.
#pragma once

#include <immintrin.h>

#include "base/dtype.h"

namespace comet::avx2 {

struct Vec {
  static constexpr int kLanes = 8;
  using F = __m256;
  using I = __m256i;

  static __m256i first(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }

  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static F load(const bf16* p) { return widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static F load(const f16* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  // The first `count` lanes (0..kLanes); the others are 0.
  static F load_partial(const float* p, int count) { return _mm256_maskload_ps(p, first(count)); }
  static F load_partial(const bf16* p, int count) { return widen_bf16(load_halves(p, count)); }
  static F load_partial(const f16* p, int count) { return _mm256_cvtph_ps(load_halves(p, count)); }

  static void store(float* p, F x) { _mm256_storeu_ps(p, x); }
  static void store_partial(float* p, F x, int count) { _mm256_maskstore_ps(p, first(count), x); }
  static void store(bf16* p, F x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_bf16(x)); }
  static void store_partial(bf16* p, F x, int count) {
    bf16 all[kLanes];
    store(all, x);
    memcpy(p, all, static_cast<size_t>(count) * sizeof(bf16));
  }
  // Lanes are in -128..127.
  static void store_i8(int8_t* p, I x) {
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
  }

  static F zero() { return _mm256_setzero_ps(); }
  static F set(float x) { return _mm256_set1_ps(x); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F rint(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // a < b ? x : y
  static F select_less(F a, F b, F x, F y) { return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ)); }

  static I set(int32_t x) { return _mm256_set1_epi32(x); }
  static I add(I a, I b) { return _mm256_add_epi32(a, b); }
  static I mul(I a, I b) { return _mm256_mullo_epi32(a, b); }
  static I bit_and(I a, I b) { return _mm256_and_si256(a, b); }
  static I clamp(I a, I low, I high) { return _mm256_min_epi32(_mm256_max_epi32(a, low), high); }
  static I max_unsigned(I a, I b) { return _mm256_max_epu32(a, b); }
  static I flip_sign(I a) { return _mm256_xor_si256(a, _mm256_set1_epi32(INT32_MIN)); }
  static I to_exponent(I a) { return _mm256_slli_epi32(a, 23); }

  static I to_int(F a) { return _mm256_cvtps_epi32(a); }  // to nearest even
  static F to_float(I a) { return _mm256_cvtepi32_ps(a); }
  static I bits(F a) { return _mm256_castps_si256(a); }
  static F from_bits(I a) { return _mm256_castsi256_ps(a); }

  // Lane l becomes lane l ^ kStride.
  template <int kStride>
  static F swap(F a) {
    if constexpr (kStride == 1) return _mm256_permute_ps(a, 0xb1);
    if constexpr (kStride == 2) return _mm256_permute_ps(a, 0x4e);
    if constexpr (kStride == 4) return _mm256_permute2f128_ps(a, a, 0x01);
  }
  // Changes the sign of the lanes l with l & kStride.
  template <int kStride>
  static F negate_upper(F a) {
    constexpr float kMinus = -0.0f;
    const F upper = kStride == 1   ? _mm256_setr_ps(0, kMinus, 0, kMinus, 0, kMinus, 0, kMinus)
                    : kStride == 2 ? _mm256_setr_ps(0, 0, kMinus, kMinus, 0, 0, kMinus, kMinus)
                                   : _mm256_setr_ps(0, 0, 0, 0, kMinus, kMinus, kMinus, kMinus);
    return _mm256_xor_ps(a, upper);
  }

  // Lanes l and l + 4 first, then 2, 1.
  static float sum(F a) {
    __m128 q = half(a);
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
  }
  // sum() of four at once, the same additions.
  static __m128 sum4(F a, F b, F c, F d) {
    const __m128 qa = half(a), qb = half(b), qc = half(c), qd = half(d);
    const __m128 ab = _mm_add_ps(_mm_unpacklo_ps(qa, qb), _mm_unpackhi_ps(qa, qb));
    const __m128 cd = _mm_add_ps(_mm_unpacklo_ps(qc, qd), _mm_unpackhi_ps(qc, qd));
    return _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
  }
  static int32_t sum(I a) {
    __m128i q = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(q, _mm_shuffle_epi32(q, 0xb1)));
  }
  static uint32_t max_unsigned(I a) {
    __m128i q = _mm_max_epu32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    q = _mm_max_epu32(q, _mm_shuffle_epi32(q, 0x4e));
    return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epu32(q, _mm_shuffle_epi32(q, 0xb1))));
  }

 private:
  static __m128 half(F a) { return _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)); }
  static __m128i load_halves(const void* p, int count) {
    uint16_t all[kLanes] = {};
    memcpy(all, p, static_cast<size_t>(count) * sizeof(uint16_t));
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(all));
  }

  static F widen_bf16(__m128i x) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16)); }

  // As to_bf16(): to nearest even, NaN stays NaN.
  static __m128i narrow_bf16(F x) {
    const __m256i u = _mm256_castps_si256(x), high = _mm256_srli_epi32(u, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(u, odd), _mm256_set1_epi32(0x7fff)), 16);
    const __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    const __m256i y = _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(nan));
    return _mm_packus_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
  }
};

}  // namespace comet::avx2
