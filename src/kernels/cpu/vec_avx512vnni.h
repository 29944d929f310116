// SPDX-License-Identifier: Apache-2.0
// Sixteen fp32 or int32 lanes, for the row kernels that are written once for every ISA. Only for *_avx512vnni.cc.
#pragma once

#include <immintrin.h>

#include "base/dtype.h"

namespace comet::avx512vnni {

struct Vec {
  static constexpr int kLanes = 16;
  using F = __m512;
  using I = __m512i;

  static __mmask16 first(int count) { return static_cast<__mmask16>((1u << count) - 1u); }

  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static F load(const bf16* p) { return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static F load(const f16* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  // The first `count` lanes (0..kLanes); the others are 0.
  static F load_partial(const float* p, int count) { return _mm512_maskz_loadu_ps(first(count), p); }
  static F load_partial(const bf16* p, int count) { return widen_bf16(_mm256_maskz_loadu_epi16(first(count), p)); }
  static F load_partial(const f16* p, int count) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(count), p)); }

  static void store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static void store_partial(float* p, F x, int count) { _mm512_mask_storeu_ps(p, first(count), x); }
  static void store(bf16* p, F x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bf16(x)); }
  static void store_partial(bf16* p, F x, int count) { _mm256_mask_storeu_epi16(p, first(count), narrow_bf16(x)); }
  // Lanes are in -128..127.
  static void store_i8(int8_t* p, I x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x)); }

  static F zero() { return _mm512_setzero_ps(); }
  static F set(float x) { return _mm512_set1_ps(x); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F rint(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // a < b ? x : y
  static F select_less(F a, F b, F x, F y) { return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), x); }

  static I set(int32_t x) { return _mm512_set1_epi32(x); }
  static I add(I a, I b) { return _mm512_add_epi32(a, b); }
  static I mul(I a, I b) { return _mm512_mullo_epi32(a, b); }
  static I bit_and(I a, I b) { return _mm512_and_si512(a, b); }
  static I clamp(I a, I low, I high) { return _mm512_min_epi32(_mm512_max_epi32(a, low), high); }
  static I max_unsigned(I a, I b) { return _mm512_max_epu32(a, b); }
  static I flip_sign(I a) { return _mm512_xor_si512(a, _mm512_set1_epi32(INT32_MIN)); }
  static I to_exponent(I a) { return _mm512_slli_epi32(a, 23); }

  static I to_int(F a) { return _mm512_cvtps_epi32(a); }  // to nearest even
  static F to_float(I a) { return _mm512_cvtepi32_ps(a); }
  static I bits(F a) { return _mm512_castps_si512(a); }
  static F from_bits(I a) { return _mm512_castsi512_ps(a); }

  // Lane l becomes lane l ^ kStride.
  template <int kStride>
  static F swap(F a) {
    if constexpr (kStride == 1) return _mm512_permute_ps(a, 0xb1);
    if constexpr (kStride == 2) return _mm512_permute_ps(a, 0x4e);
    if constexpr (kStride == 4) return _mm512_shuffle_f32x4(a, a, 0xb1);
    if constexpr (kStride == 8) return _mm512_shuffle_f32x4(a, a, 0x4e);
  }
  // Changes the sign of the lanes l with l & kStride.
  template <int kStride>
  static F negate_upper(F a) {
    constexpr __mmask16 kUpper = kStride == 1 ? 0xaaaa : kStride == 2 ? 0xcccc : kStride == 4 ? 0xf0f0 : 0xff00;
    return _mm512_mask_xor_ps(a, kUpper, a, _mm512_set1_ps(-0.0f));
  }

  // Lanes l and l + 8 first, then 4, 2, 1.
  static float sum(F a) {
    __m128 q = quarter(a);
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
  }
  // sum() of four at once, the same additions.
  static __m128 sum4(F a, F b, F c, F d) {
    const __m128 qa = quarter(a), qb = quarter(b), qc = quarter(c), qd = quarter(d);
    const __m128 ab = _mm_add_ps(_mm_unpacklo_ps(qa, qb), _mm_unpackhi_ps(qa, qb));
    const __m128 cd = _mm_add_ps(_mm_unpacklo_ps(qc, qd), _mm_unpackhi_ps(qc, qd));
    return _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
  }
  static int32_t sum(I a) { return _mm512_reduce_add_epi32(a); }
  static uint32_t max_unsigned(I a) { return _mm512_reduce_max_epu32(a); }

 private:
  static __m128 quarter(F a) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  }
  static F widen_bf16(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }

  // As to_bf16(): to nearest even, NaN stays NaN. (vcvtneps2bf16 flushes subnormals.)
  static __m256i narrow_bf16(F x) {
    const __m512i u = _mm512_castps_si512(x), high = _mm512_srli_epi32(u, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(u, odd), _mm512_set1_epi32(0x7fff)), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40)));
  }
};

}  // namespace comet::avx512vnni
