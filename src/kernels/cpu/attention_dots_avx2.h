// SPDX-License-Identifier: Apache-2.0
// Exact integer products of kv4 and kv8 attention with vpmaddubsw, which saturates at 16 bits: its unsigned operand is
// kept to a nibble, so that a sum of several products still fits. An 8-bit code is two nibbles, 16 * high + low.
#pragma once

#include "kernels/cpu/attention_int_body.h"
#include "kernels/cpu/attention_simd_avx2.h"

namespace comet::avx2 {

static_assert(8 * 2 * 15 * 127 < 32768, "a group's 16 words of K in two sums");
static_assert(4 * 2 * 255 * 15 < 32768, "a kv_block's 16 words of V in four sums");

template <int kBits>
struct Dots {
  static constexpr int kPlanes = kBits / 4;      // nibbles of a code
  static constexpr int kMostRows = 4 / kPlanes;  // rows in flight: at most 8 sums of the 16 registers

  COMET_HD __m256i broadcast_word(const void* p) {
    int32_t word;
    __builtin_memcpy(&word, p, 4);
    return _mm256_set1_epi32(word);
  }

  // sum + products of unsigned a and signed b. The empty statement keeps GCC from reassociating the sums of the
  // unrolled loops into trees, which do not fit the registers.
  COMET_HD __m256i add_products(__m256i sum, __m256i a, __m256i b) {
    sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(a, b));
    asm("" : "+x"(sum));
    return sum;
  }

  // 32-byte half of a cell -> operand[low or high words][nibble]. flip: 0x80 makes signed codes unsigned, offset 128.
  COMET_HD void load_cell(const uint8_t* p, int half, int flip, __m256i (*operand)[kPlanes]) {
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i x = _mm256_load_si256(reinterpret_cast<const __m256i*>(p + 32 * half));
    if constexpr (kBits == 4) {
      operand[0][0] = _mm256_and_si256(x, nibble);
      operand[1][0] = _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble);
    } else {
      const __m256i y = _mm256_load_si256(reinterpret_cast<const __m256i*>(p + 64 + 32 * half));
      const __m256i sign = _mm256_set1_epi8(static_cast<char>(flip));
      const __m256i codes[2] = {_mm256_xor_si256(x, sign), _mm256_xor_si256(y, sign)};
      for (int w = 0; w < 2; ++w) {
        operand[w][0] = _mm256_and_si256(codes[w], nibble);
        operand[w][1] = _mm256_and_si256(_mm256_srli_epi16(codes[w], 4), nibble);
      }
    }
  }

  // Adds the nibbles' 16-bit sums, weighted, to the 32-bit sum.
  COMET_HD __m256i widen(__m256i sum, const __m256i* sums16) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(sums16[0], _mm256_set1_epi16(1)));
    if constexpr (kPlanes == 2) sum = _mm256_add_epi32(sum, _mm256_madd_epi16(sums16[1], _mm256_set1_epi16(16)));
    return sum;
  }

  template <int kRows>
  COMET_HD void score_group(const uint8_t* data, const int8_t (*q)[kMaxHeadDim], int key, int channel,
                            __m256i (*sum)[2]) {
#pragma GCC unroll 2  // a loop would copy every sum once a turn
    for (int part = 0; part < 2; ++part) {
      __m256i sums16[kRows][2][kPlanes];
      for (int r = 0; r < kRows; ++r)
        for (int half = 0; half < 2; ++half)
          for (int n = 0; n < kPlanes; ++n) sums16[r][half][n] = _mm256_setzero_si256();
#pragma GCC unroll 4
      for (int step = part * 4; step < part * 4 + 4; ++step)
        for (int half = 0; half < 2; ++half) {
          __m256i codes[2][kPlanes];
          load_cell(data + kv_key_cell(kBits, key, channel + step * kKeyCellChannels), half, 0, codes);
          for (int r = 0; r < kRows; ++r)
            for (int w = 0; w < 2; ++w) {
              const __m256i q_word = broadcast_word(&q[r][channel + step * 8 + w * 4]);
              for (int n = 0; n < kPlanes; ++n)
                sums16[r][half][n] = add_products(sums16[r][half][n], codes[w][n], q_word);
            }
        }
      for (int r = 0; r < kRows; ++r)
        for (int half = 0; half < 2; ++half) sum[r][half] = widen(sum[r][half], sums16[r][half]);
    }
  }

  // x[row][key] = sum over groups of key scale * (exact dot), in the order of the contract.
  template <int kRows>
  __attribute__((noinline)) static void scores(const KvLayout& layout, const uint8_t* data, const uint8_t* next,
                                               const int8_t (*q)[kMaxHeadDim], const int32_t (*q_sums)[kMaxKeyGroups],
                                               float (*x)[kKvBlock]) {
    if constexpr (kRows > kMostRows) {
      scores<kMostRows>(layout, data, next, q, q_sums, x);
      scores<kRows - kMostRows>(layout, data, next, q + kMostRows, q_sums + kMostRows, x + kMostRows);
    } else {
      const uint16_t* scales = reinterpret_cast<const uint16_t*>(data + layout.key_scales);
      const uint8_t* zeros = data + layout.key_zeros;
      for (int column = 0; column < 4; ++column)
        for (int g = 0; g * kKeyGroup < layout.dim; ++g) {
          const int key = column * kKeyCellTokens;
          __m256i sum[kRows][2];
          for (int half = 0; half < 2; ++half) {
            __m256i zero = _mm256_set1_epi32(kKv8KeyZero);
            if constexpr (kBits == 4)
              zero = _mm256_cvtepu8_epi32(
                  _mm_loadl_epi64(reinterpret_cast<const __m128i*>(zeros + g * kKvBlock + key + half * 8)));
            for (int r = 0; r < kRows; ++r)  // 16-bit products: the sums of q stay within 64 * 127
              sum[r][half] = _mm256_madd_epi16(zero, _mm256_set1_epi32(-q_sums[r][g] & 0xffff));
          }
          prefetch(next + static_cast<uint32_t>((g * 4 + column) * 8) * kv_cell_bytes(kBits), 8 * kv_cell_bytes(kBits));
          score_group<kRows>(data, q, key, g * kKeyGroup, sum);
          for (int half = 0; half < 2; ++half) {
            const __m256 scale = Simd::load_f16(scales + g * kKvBlock + key + half * 8);
            for (int r = 0; r < kRows; ++r) {
              float* at = &x[r][key + half * 8];
              const __m256 dot = _mm256_cvtepi32_ps(sum[r][half]);
              Simd::store(at, g == 0 ? _mm256_mul_ps(scale, dot) : _mm256_fmadd_ps(scale, dot, Simd::load(at)));
            }
          }
        }
    }
  }

  // out[row] = sum of p8 * zero point over the keys; writes 8 results.
  COMET_HD void sum_zeros(const KvLayout& layout, const uint8_t* data, const uint8_t (*p)[kKvBlock], int rows,
                          float* out) {
    alignas(64) float lanes[kStepRows][8];
    for (int r = 0; r < rows; ++r) {
      __m256i sum = _mm256_setzero_si256();
      for (int half = 0; half < 2; ++half) {
        const __m256i codes = _mm256_load_si256(reinterpret_cast<const __m256i*>(p[r] + 32 * half));
        if constexpr (kBits == 4) {
          const __m256i order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);  // as word_index
          const __m256i zeros =
              _mm256_load_si256(reinterpret_cast<const __m256i*>(data + layout.value_zeros + 32 * half));
          sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, _mm256_permutevar8x32_epi32(zeros, order)));
        } else {
          sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, _mm256_set1_epi8(1)));
        }
      }
      sum = _mm256_madd_epi16(sum, _mm256_set1_epi16(kBits == 4 ? 1 : 128));
      _mm256_store_ps(lanes[r], _mm256_castsi256_ps(sum));
    }
    Simd::fold_lanes<Simd::IntSum>(lanes, rows, out);
  }

  template <int kRows>
  COMET_HD void weigh_channels(const uint8_t* values, const uint8_t (*p)[kKvBlock], int channel, int half,
                               __m256i (*sum)[2]) {
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) {
      __m256i sums16[kRows][2][kPlanes];
      for (int r = 0; r < kRows; ++r)
        for (int w = 0; w < 2; ++w)
          for (int n = 0; n < kPlanes; ++n) sums16[r][w][n] = _mm256_setzero_si256();
#pragma GCC unroll 4
      for (int word = part * 4; word < part * 4 + 4; ++word) {
        __m256i codes[2][kPlanes];
        load_cell(values + kv_value_cell(kBits, word * kValueCellTokens, channel), half, 0x80, codes);
        for (int r = 0; r < kRows; ++r) {
          const __m256i p_word = broadcast_word(&p[r][4 * Simd::word_index(word)]);
          for (int w = 0; w < 2; ++w)
            for (int n = 0; n < kPlanes; ++n) sums16[r][w][n] = add_products(sums16[r][w][n], p_word, codes[w][n]);
        }
      }
      for (int r = 0; r < kRows; ++r)
        for (int w = 0; w < 2; ++w) sum[r][w] = widen(sum[r][w], sums16[r][w]);
    }
  }

  template <int kRows>
  COMET_HD void weigh_rows(const KvLayout& layout, const uint8_t* data, const uint8_t (*p)[kKvBlock],
                           const float* zero_sums, int first, const OutputFold<Simd>& fold) {
    if constexpr (kRows > kMostRows) {
      weigh_rows<kMostRows>(layout, data, p, zero_sums, first, fold);
      weigh_rows<kRows - kMostRows>(layout, data, p + kMostRows, zero_sums + kMostRows, first + kMostRows, fold);
    } else {
      for (int column = 0; column < layout.dim / kValueCellChannels; ++column)
        for (int half = 0; half < 2; ++half) {
          __m256i sum[kRows][2];
          for (int r = 0; r < kRows; ++r)
            sum[r][0] = sum[r][1] = _mm256_sub_epi32(_mm256_setzero_si256(), broadcast_word(&zero_sums[r]));
          weigh_channels<kRows>(data + layout.v_codes, p, column * kValueCellChannels, half, sum);
          for (int r = 0; r < kRows; ++r)
            for (int w = 0; w < 2; ++w)
              OutputFold<Simd>::apply(fold, first + r, column * kValueCellChannels + w * 16 + half * 8, sum[r][w]);
        }
    }
  }

  // Folds the exact sums of p8 * (code - zero) into the outputs.
  template <int kRows>
  __attribute__((noinline)) static void values(const KvLayout& layout, const uint8_t* data, const uint8_t* next,
                                               const uint8_t (*p)[kKvBlock], const OutputFold<Simd>& fold) {
    alignas(32) float zero_sums[8];
    prefetch(next + layout.v_codes, layout.key_scales - layout.v_codes);
    sum_zeros(layout, data, p, kRows, zero_sums);
    weigh_rows<kRows>(layout, data, p, zero_sums, 0, fold);
  }
};

}  // namespace comet::avx2
