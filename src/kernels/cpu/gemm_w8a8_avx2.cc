// SPDX-License-Identifier: Apache-2.0
// gemm_w8a8 with vpmaddubsw on |w| and sign(w) * a: a pair is at most 2 * 128 * 127, so int16 does not saturate.
#include "kernels/cpu/gemm_epilogue.h"
#include "kernels/cpu/vec_avx2.h"

namespace comet::avx2 {
namespace {

__m256i broadcast_dword(const int8_t* p) {
  int32_t x;
  memcpy(&x, p, 4);
  return _mm256_set1_epi32(x);
}

template <int kTokens>
void tile(const GemmTile& a) {
  const __m256i ones = _mm256_set1_epi16(1);
  const uint8_t* line = a.panel;
  const int8_t* values = a.values;
  __m256i acc[2][kTokens];
  COMET_UNROLL
  for (int t = 0; t < kTokens; ++t) acc[0][t] = acc[1][t] = _mm256_setzero_si256();
  for (int g = 0; g < a.k / kGroup; ++g) {
    for (int j = 0; j < kGroup / 4; ++j) {
      COMET_UNROLL
      for (int half = 0; half < 2; ++half) {
        const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line + 32 * half));
        const __m256i magnitude = _mm256_abs_epi8(w);
        COMET_UNROLL
        for (int t = 0; t < kTokens; ++t) {
          const __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(broadcast_dword(values + 4 * t), w));
          acc[half][t] = _mm256_add_epi32(acc[half][t], _mm256_madd_epi16(pairs, ones));
        }
      }
      line += kLineBytes;
      values += 4 * kTokens;
    }
    if (g + 1 == a.num_int8_groups)
      for (int half = 0; half < 2; ++half) {
        COMET_UNROLL
        for (int t = 0; t < kTokens; ++t)
          acc[half][t] = _mm256_mullo_epi32(acc[half][t], _mm256_set1_epi32(a.region1_factors[t]));
      }
  }
  for (int half = 0; half < 2; ++half) {
    COMET_UNROLL
    for (int t = 0; t < kTokens; ++t) store_channels<Vec>(a, t, 8 * half, acc[half][t]);
  }
}

}  // namespace

const GemmTileFn kGemmW8a8[kMaxTokens] = {tile<1>, tile<2>, tile<3>, tile<4>};

}  // namespace comet::avx2
