// SPDX-License-Identifier: Apache-2.0
// gemm_w4ax with vpdpbusd: raw 4-bit codes (unsigned) times broadcast activations, per group one multiply by s1.
#include "kernels/cpu/gemm_epilogue.h"
#include "kernels/cpu/vec_avx512vnni.h"

namespace comet::avx512vnni {
namespace {

__m512i broadcast_dword(const int8_t* p) {
  int32_t x;
  memcpy(&x, p, 4);
  return _mm512_set1_epi32(x);
}

// Lines ahead of the read position, where the tile computes too long for the hardware prefetcher to stay ahead
// (measured on Zen 4: with fewer tokens it does better alone).
constexpr int kPrefetchBytes = 2048;
constexpr int kPrefetchFromTokens = 3;

template <int kTokens>
void tile(const GemmTile& a) {
  // Independent accumulators of one token: vpdpbusd has a latency of 4 to 5.
  constexpr int kChains = kTokens == 1 ? 4 : kTokens <= 4 ? 2 : 1;
  const int groups = a.k / kGroup;
  const __m512i nibble = _mm512_set1_epi8(15);
  const uint8_t* line = a.panel;
  const int8_t* values = a.values;
  __m512i total[kTokens];
  COMET_UNROLL
  for (int t = 0; t < kTokens; ++t) total[t] = _mm512_setzero_si512();

  for (int g = 0; g < groups; ++g) {
    if (g % kGroupsPerLine == 0) line += kLineBytes;
    const __m128i* bytes = reinterpret_cast<const __m128i*>(a.panel + w4ax_params_byte(0, g));
    const __m512i params = _mm512_cvtepu8_epi32(_mm_loadu_si128(bytes));
    const __m512i s1 = _mm512_add_epi32(_mm512_srli_epi32(params, 4), _mm512_set1_epi32(1));
    // -z in the low word of each dword; vpdpwssd makes -z * (sum of values) the start of the group's accumulator.
    const __m512i z = _mm512_and_si512(params, nibble);
    const __m512i minus_z = _mm512_and_si512(_mm512_sub_epi32(_mm512_setzero_si512(), z), _mm512_set1_epi32(0xffff));
    __m512i acc[kTokens][kChains];
    COMET_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      COMET_UNROLL
      for (int c = 0; c < kChains; ++c) acc[t][c] = _mm512_setzero_si512();
      const int32_t sum = static_cast<uint16_t>(a.value_sums[g * kTokens + t]);
      acc[t][0] = _mm512_dpwssd_epi32(acc[t][0], minus_z, _mm512_set1_epi32(sum));
    }
    // Two lines a round: a whole group of them would not stay in the micro-op cache.
    for (int round = 0; round < kGroup / 16; ++round) {
      COMET_UNROLL
      for (int j = 0; j < 2; ++j) {
        if constexpr (kTokens >= kPrefetchFromTokens)
          _mm_prefetch(reinterpret_cast<const char*>(line) + kPrefetchBytes, _MM_HINT_T0);
        const __m512i codes = _mm512_loadu_si512(line);
        const __m512i low = _mm512_and_si512(codes, nibble);
        const __m512i high = _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble);
        // All of one half, then all of the other: what a token's accumulator waits for is kTokens instructions back.
        COMET_UNROLL
        for (int t = 0; t < kTokens; ++t) {
          __m512i& chain = acc[t][2 * j % kChains];
          chain = _mm512_dpbusd_epi32(chain, low, broadcast_dword(values + 4 * t));
        }
        COMET_UNROLL
        for (int t = 0; t < kTokens; ++t) {
          __m512i& chain = acc[t][(2 * j + 1) % kChains];
          chain = _mm512_dpbusd_epi32(chain, high, broadcast_dword(values + 4 * (kTokens + t)));
        }
        line += kLineBytes;
        values += 8 * kTokens;
      }
    }
    COMET_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      COMET_UNROLL
      for (int c = 1; c < kChains; ++c) acc[t][0] = _mm512_add_epi32(acc[t][0], acc[t][c]);
      total[t] = _mm512_add_epi32(total[t], _mm512_mullo_epi32(acc[t][0], s1));
    }
    if (g + 1 == a.num_int8_groups) {
      COMET_UNROLL
      for (int t = 0; t < kTokens; ++t)
        total[t] = _mm512_mullo_epi32(total[t], _mm512_set1_epi32(a.region1_factors[t]));
    }
  }
  COMET_UNROLL
  for (int t = 0; t < kTokens; ++t) store_channels<Vec>(a, t, 0, total[t]);
}

}  // namespace

const GemmTileFn kGemmW4ax[kMaxTokens] = {tile<1>, tile<2>, tile<3>, tile<4>,  tile<5>,  tile<6>,
                                          tile<7>, tile<8>, tile<9>, tile<10>, tile<11>, tile<12>};

}  // namespace comet::avx512vnni
