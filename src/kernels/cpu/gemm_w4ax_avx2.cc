// SPDX-License-Identifier: Apache-2.0
// gemm_w4ax with vpmaddubsw: raw 4-bit codes (unsigned) times broadcast activations in int16, then vpmaddwd by s1.
#include "kernels/cpu/gemm_epilogue.h"
#include "kernels/cpu/vec_avx2.h"

namespace comet::avx2 {
namespace {

__m256i broadcast_dword(const int8_t* p) {
  int32_t x;
  memcpy(&x, p, 4);
  return _mm256_set1_epi32(x);
}

// Eight vpmaddubsw results fit int16: 8 * 2 * 15 * 127 = 30,480.
constexpr int kLinesPerChunk = 4;

// One group of one half (eight channels) of the panel: s1 * (sum of codes * values - z * value_sum), added to total.
template <int kTokens>
inline void group_half(const uint8_t* line, const int8_t* values, const int16_t* value_sums, __m256i params,
                       __m256i* total) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i s1 = _mm256_add_epi32(_mm256_srli_epi32(params, 4), _mm256_set1_epi32(1));
  const __m256i s1_pair = _mm256_or_si256(s1, _mm256_slli_epi32(s1, 16));
  const __m256i s1_z = _mm256_madd_epi16(s1, _mm256_and_si256(params, nibble));
  __m256i acc[kTokens];
  COMET_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    const int32_t sum = static_cast<uint16_t>(value_sums[t]);
    acc[t] = _mm256_sub_epi32(total[t], _mm256_madd_epi16(s1_z, _mm256_set1_epi32(sum)));
  }
  for (int chunk = 0; chunk < kGroup / 8 / kLinesPerChunk; ++chunk) {
    __m256i words[kTokens];
    COMET_UNROLL
    for (int t = 0; t < kTokens; ++t) words[t] = _mm256_setzero_si256();
    COMET_UNROLL
    for (int j = 0; j < kLinesPerChunk; ++j) {
      const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line));
      const __m256i low = _mm256_and_si256(codes, nibble), high = _mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble);
      COMET_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        words[t] = _mm256_add_epi16(words[t], _mm256_maddubs_epi16(low, broadcast_dword(values + 4 * t)));
        words[t] = _mm256_add_epi16(words[t], _mm256_maddubs_epi16(high, broadcast_dword(values + 4 * (kTokens + t))));
      }
      line += kLineBytes;
      values += 8 * kTokens;
    }
    COMET_UNROLL
    for (int t = 0; t < kTokens; ++t) acc[t] = _mm256_add_epi32(acc[t], _mm256_madd_epi16(words[t], s1_pair));
  }
  COMET_UNROLL
  for (int t = 0; t < kTokens; ++t) total[t] = acc[t];
}

template <int kTokens>
void tile(const GemmTile& a) {
  const int groups = a.k / kGroup;
  const uint8_t* line = a.panel;
  const int8_t* values = a.values;
  __m256i total[2][kTokens];
  for (int t = 0; t < kTokens; ++t) total[0][t] = total[1][t] = _mm256_setzero_si256();
  for (int g = 0; g < groups; ++g) {
    if (g % kGroupsPerLine == 0) line += kLineBytes;
    for (int half = 0; half < 2; ++half) {
      const uint8_t* bytes = a.panel + w4ax_params_byte(8 * half, g);
      const __m256i params = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
      group_half<kTokens>(line + 32 * half, values, a.value_sums + g * kTokens, params, total[half]);
    }
    line += kGroup / 8 * kLineBytes;
    values += kGroup * kTokens;
    if (g + 1 == a.num_int8_groups)
      for (int t = 0; t < kTokens; ++t)
        for (int half = 0; half < 2; ++half)
          total[half][t] = _mm256_mullo_epi32(total[half][t], _mm256_set1_epi32(a.region1_factors[t]));
  }
  for (int t = 0; t < kTokens; ++t)
    for (int half = 0; half < 2; ++half) store_channels<Vec>(a, t, 8 * half, total[half][t]);
}

}  // namespace

const GemmTileFn kGemmW4ax[kMaxTokens] = {tile<1>, tile<2>, tile<3>, tile<4>};

}  // namespace comet::avx2
