// SPDX-License-Identifier: Apache-2.0
// gemm_w8a8 with vpdpbusd: weights as w + 128 (unsigned), and 128 * osum taken off at the end.
#include "kernels/cpu/gemm_epilogue.h"
#include "kernels/cpu/vec_avx512vnni.h"

namespace comet::avx512vnni {
namespace {

__m512i broadcast_dword(const int8_t* p) {
  int32_t x;
  memcpy(&x, p, 4);
  return _mm512_set1_epi32(x);
}

constexpr int kPrefetchBytes = 2048;  // as in gemm_w4ax_avx512vnni.cc
constexpr int kPrefetchFromTokens = 3;

template <int kTokens>
void tile(const GemmTile& a) {
  constexpr int kChains = kTokens == 1 ? 4 : kTokens <= 4 ? 2 : 1;
  const __m512i flip = _mm512_set1_epi8(-128);
  const uint8_t* line = a.panel;
  const int8_t* values = a.values;
  __m512i acc[kTokens][kChains];
  COMET_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    COMET_UNROLL
    for (int c = 0; c < kChains; ++c) acc[t][c] = _mm512_setzero_si512();
  }
  for (int g = 0; g < a.k / kGroup; ++g) {
    for (int j = 0; j < kGroup / 4; j += 4) {
      COMET_UNROLL
      for (int i = 0; i < 4; ++i) {
        if constexpr (kTokens >= kPrefetchFromTokens)
          _mm_prefetch(reinterpret_cast<const char*>(line) + kPrefetchBytes, _MM_HINT_T0);
        const __m512i w = _mm512_xor_si512(_mm512_loadu_si512(line), flip);
        COMET_UNROLL
        for (int t = 0; t < kTokens; ++t) {
          __m512i& chain = acc[t][i % kChains];
          chain = _mm512_dpbusd_epi32(chain, w, broadcast_dword(values + 4 * t));
        }
        line += kLineBytes;
        values += 4 * kTokens;
      }
    }
    if (g + 1 == a.num_int8_groups) {
      COMET_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        COMET_UNROLL
        for (int c = 0; c < kChains; ++c)
          acc[t][c] = _mm512_mullo_epi32(acc[t][c], _mm512_set1_epi32(a.region1_factors[t]));
      }
    }
  }
  COMET_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    COMET_UNROLL
    for (int c = 1; c < kChains; ++c) acc[t][0] = _mm512_add_epi32(acc[t][0], acc[t][c]);
    const __m512i offset = _mm512_set1_epi32(static_cast<int32_t>(128u * a.sums[t]));
    store_channels<Vec>(a, t, 0, _mm512_sub_epi32(acc[t][0], offset));
  }
}

}  // namespace

const GemmTileFn kGemmW8a8[kMaxTokens] = {tile<1>, tile<2>, tile<3>, tile<4>,  tile<5>,  tile<6>,
                                          tile<7>, tile<8>, tile<9>, tile<10>, tile<11>, tile<12>};

}  // namespace comet::avx512vnni
