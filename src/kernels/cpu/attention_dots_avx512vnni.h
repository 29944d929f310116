// SPDX-License-Identifier: Apache-2.0
// Exact integer products of kv4 and kv8 attention with vpdpbusd: one cell of kv_layout.h is one register operand.
#pragma once

#include "kernels/cpu/attention_int_body.h"
#include "kernels/cpu/attention_simd_avx512vnni.h"

namespace comet::avx512vnni {

template <int kBits>
struct Dots {
  // The two operands in a cell: for 4 bits the low and the high nibbles.
  COMET_HD void load_cell(const uint8_t* p, __m512i* low, __m512i* high) {
    const __m512i x = _mm512_load_si512(p);
    if constexpr (kBits == 4) {
      const __m512i nibble = _mm512_set1_epi8(15);
      *low = _mm512_and_si512(x, nibble);
      *high = _mm512_and_si512(_mm512_srli_epi16(x, 4), nibble);
    } else {
      *low = x;
      *high = _mm512_load_si512(p + 64);
    }
  }

  COMET_HD __m512i broadcast_word(const void* p) {
    int32_t word;
    __builtin_memcpy(&word, p, 4);
    return _mm512_set1_epi32(word);
  }

  // x[row][key] = sum over groups of key scale * (exact dot), in the order of the contract.
  template <int kRows>
  __attribute__((noinline)) static void scores(const KvLayout& layout, const uint8_t* data, const uint8_t* next,
                                               const int8_t (*q)[kMaxHeadDim], const int32_t (*q_sums)[kMaxKeyGroups],
                                               float (*x)[kKvBlock]) {
    constexpr int kColumns = kRows > 4 ? 2 : 4;  // vectors of 16 keys in flight: at most 16 accumulators
    const int groups = layout.dim / kKeyGroup;
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(data + layout.key_scales);
    const uint8_t* zeros = data + layout.key_zeros;
    for (int column = 0; column < 4; column += kColumns)
      for (int g = 0; g < groups; ++g) {
        __m512i sum[kRows][kColumns];
        for (int c = 0; c < kColumns; ++c) {
          const uint8_t* at = zeros + g * kKvBlock + (column + c) * 16;
          if constexpr (kBits == 4) {
            const __m512i zero = _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(at)));
            for (int r = 0; r < kRows; ++r)  // 16-bit products: the sums of q stay within 64 * 127
              sum[r][c] = _mm512_dpwssd_epi32(_mm512_setzero_si512(), zero, _mm512_set1_epi32(-q_sums[r][g] & 0xffff));
          } else {
            for (int r = 0; r < kRows; ++r) sum[r][c] = _mm512_set1_epi32(-kKv8KeyZero * q_sums[r][g]);
          }
        }
#pragma GCC unroll 8  // a loop would copy every sum once a turn
        for (int step = 0; step < 8; ++step) {
          __m512i low[kColumns], high[kColumns];
          for (int c = 0; c < kColumns; ++c) {
            const uint32_t cell =
                kv_key_cell(kBits, (column + c) * kKeyCellTokens, g * kKeyGroup + step * kKeyCellChannels);
            load_cell(data + cell, &low[c], &high[c]);
            prefetch(next + cell, kv_cell_bytes(kBits));
          }
          for (int r = 0; r < kRows; ++r) {
            const __m512i q_low = broadcast_word(&q[r][g * kKeyGroup + step * 8]);
            const __m512i q_high = broadcast_word(&q[r][g * kKeyGroup + step * 8 + 4]);
            for (int c = 0; c < kColumns; ++c) {
              sum[r][c] = _mm512_dpbusd_epi32(sum[r][c], low[c], q_low);
              sum[r][c] = _mm512_dpbusd_epi32(sum[r][c], high[c], q_high);
            }
          }
        }
        for (int c = 0; c < kColumns; ++c) {
          const __m512 scale = Simd::load_f16(scales + g * kKvBlock + (column + c) * 16);
          for (int r = 0; r < kRows; ++r) {
            float* at = &x[r][(column + c) * 16];
            const __m512 dot = _mm512_cvtepi32_ps(sum[r][c]);
            Simd::store(at, g == 0 ? _mm512_mul_ps(scale, dot) : _mm512_fmadd_ps(scale, dot, Simd::load(at)));
          }
        }
      }
  }

  // Folds the exact sums of p8 * (code - zero) into the outputs.
  template <int kRows>
  __attribute__((noinline)) static void values(const KvLayout& layout, const uint8_t* data, const uint8_t* next,
                                               const uint8_t (*p)[kKvBlock], const OutputFold<Simd>& fold) {
    constexpr int kColumns = kRows > 4 ? 1 : 2;  // groups of 32 channels in flight
    alignas(64) float zero_sums[16];
    if constexpr (kBits == 4) {
      alignas(64) float lanes[kStepRows][16];
      const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);  // as word_index
      const __m512i zeros = _mm512_permutexvar_epi32(order, _mm512_load_si512(data + layout.value_zeros));
      for (int r = 0; r < kRows; ++r)
        _mm512_store_ps(
            lanes[r], _mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_load_si512(p[r]), zeros)));
      Simd::fold_lanes<Simd::IntSum>(lanes, kRows, zero_sums);
    }
    for (int column = 0; column < layout.dim / kValueCellChannels; column += kColumns) {
      __m512i sum[kRows][kColumns][2];
      for (int r = 0; r < kRows; ++r)
        for (int c = 0; c < kColumns; ++c) {
          sum[r][c][0] = _mm512_setzero_si512();
          if constexpr (kBits == 4) sum[r][c][0] = _mm512_sub_epi32(sum[r][c][0], broadcast_word(&zero_sums[r]));
          sum[r][c][1] = sum[r][c][0];
        }
#pragma GCC unroll 16
      for (int word = 0; word < 16; ++word) {
        __m512i low[kColumns], high[kColumns];
        for (int c = 0; c < kColumns; ++c) {
          const uint32_t cell =
              layout.v_codes + kv_value_cell(kBits, word * kValueCellTokens, (column + c) * kValueCellChannels);
          load_cell(data + cell, &low[c], &high[c]);
          prefetch(next + cell, kv_cell_bytes(kBits));
        }
        for (int r = 0; r < kRows; ++r) {
          const __m512i p_word = broadcast_word(&p[r][4 * Simd::word_index(word)]);
          for (int c = 0; c < kColumns; ++c) {
            sum[r][c][0] = _mm512_dpbusd_epi32(sum[r][c][0], p_word, low[c]);
            sum[r][c][1] = _mm512_dpbusd_epi32(sum[r][c][1], p_word, high[c]);
          }
        }
      }
      for (int r = 0; r < kRows; ++r)
        for (int c = 0; c < kColumns; ++c)
          for (int half = 0; half < 2; ++half)
            OutputFold<Simd>::apply(fold, r, (column + c) * kValueCellChannels + half * 16, sum[r][c][half]);
    }
  }
};

}  // namespace comet::avx512vnni
