// SPDX-License-Identifier: Apache-2.0
// gemm_w16 in fp32 fma; V is a Vec of one ISA, and kTileTokens x kTileChannels accumulators, the channels' weights and
// one vector of activations fill its registers.
// Only for ISA files.
#pragma once

#include "kernels/cpu/gemm_epilogue.h"
#include "kernels/cpu/gemm_w16.h"

namespace comet {

template <class V, int kTileTokens, int kTileChannels>
struct GemmW16 {
  using F = typename V::F;

  // One block of k: sums[t, c] = (is_first ? 0 : sums[t, c]) + dot(a[t], b[c]) over len values. `ahead`: what lies in
  // memory after the tile's channels, fetched meanwhile as one stream (a few short rows at once are no stream that the
  // hardware prefetches: 16 against 24 GB/s a core on Zen 4), or null.
  template <typename T, int kTokens, int kChannels>
  static void dot_tile(const float* a, int64_t a_stride, const T* b, int64_t b_stride, const T* ahead, int len,
                       bool is_first, float* sums) {
    F acc[kTokens][kChannels];
    COMET_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      COMET_UNROLL
      for (int c = 0; c < kChannels; ++c) acc[t][c] = V::zero();
    }
    constexpr int kBytes = V::kLanes * kTileChannels * static_cast<int>(sizeof(T));
    auto step = [&](int i, auto load) __attribute__((always_inline)) {
      F w[kChannels];
      COMET_UNROLL
      for (int c = 0; c < kChannels; ++c) w[c] = load(b + c * b_stride + i);
      if (ahead != nullptr)
        for (int byte = 0; byte < kBytes; byte += 64)
          _mm_prefetch(reinterpret_cast<const char*>(ahead) + i / V::kLanes * kBytes + byte, _MM_HINT_T1);
      COMET_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        const F x = load(a + t * a_stride + i);
        COMET_UNROLL
        for (int c = 0; c < kChannels; ++c) acc[t][c] = V::fma(x, w[c], acc[t][c]);
      }
    };
    const auto load_all = [](auto* p) __attribute__((always_inline)) { return V::load(p); };
    int i = 0;
    for (; i + V::kLanes <= len; i += V::kLanes) step(i, load_all);
    const auto load_rest = [&](auto* p) __attribute__((always_inline)) { return V::load_partial(p, len - i); };
    if (i < len) step(i, load_rest);
    float dots[kTokens * kChannels + 3];
    COMET_UNROLL
    for (int dot = 0; dot < kTokens * kChannels; dot += 4) {
      auto chain = [&](int at) { return at < kTokens * kChannels ? acc[at / kChannels][at % kChannels] : V::zero(); };
      _mm_storeu_ps(dots + dot, V::sum4(chain(dot), chain(dot + 1), chain(dot + 2), chain(dot + 3)));
    }
    for (int t = 0; t < kTokens; ++t)
      for (int c = 0; c < kChannels; ++c) {
        float& sum = sums[t * kW16Channels + c];
        sum = is_first ? dots[t * kChannels + c] : sum + dots[t * kChannels + c];
      }
  }

  // The same for numbers of tokens and channels that are not constants.
  template <typename T, int kTokens = kTileTokens>
  static void dot_some(int tokens, const float* a, int64_t a_stride, const T* b, int64_t b_stride, const T* ahead,
                       int num_channels, int len, bool is_first, float* sums) {
    if (tokens == kTokens) {
      if (num_channels == kTileChannels)
        return dot_tile<T, kTokens, kTileChannels>(a, a_stride, b, b_stride, ahead, len, is_first, sums);
      for (int c = 0; c < num_channels; ++c)
        dot_tile<T, kTokens, 1>(a, a_stride, b + c * b_stride, b_stride, nullptr, len, is_first, sums + c);
    } else if constexpr (kTokens > 1) {
      dot_some<T, kTokens - 1>(tokens, a, a_stride, b, b_stride, ahead, num_channels, len, is_first, sums);
    }
  }

  // A tile's channels at a time, for each block of k all tokens: a block of weights comes from memory once and is
  // widened in every tile, which costs less than a pass of its own.
  template <typename T>
  static void sum_all(const W16Task& task, float* sums) {
    const int64_t k = task.problem.k;
    const int num_tiles = (task.num_tokens + kTileTokens - 1) / kTileTokens;
    const float* a = task.args.a + task.token * k;
    const T* b = static_cast<const T*>(task.args.b) + task.channel * k;
    for (int c = 0; c < task.num_channels; c += kTileChannels) {
      const int count = task.num_channels - c < kTileChannels ? task.num_channels - c : kTileChannels;
      for (int64_t at = 0; at < k; at += kW16Block) {
        const int len = static_cast<int>(k - at < kW16Block ? k - at : kW16Block);
        const T* ahead = b + (c + count) * k + at * kTileChannels;
        for (int i = 0; i < num_tiles; ++i) {
          const int t = i * task.num_tokens / num_tiles, end = (i + 1) * task.num_tokens / num_tiles;
          dot_some<T>(end - t, a + t * k + at, k, b + c * k + at, k, i == 0 ? ahead : nullptr, count, len, at == 0,
                      sums + t * kW16Channels + c);
        }
      }
    }
  }

  static void run(const W16Task& task) {
    alignas(64) float sums[kW16Tokens * kW16Channels];
    switch (task.args.b_dtype) {
      case DType::bf16: sum_all<bf16>(task, sums); break;
      case DType::f16: sum_all<f16>(task, sums); break;
      default: sum_all<float>(task, sums); break;
    }
    for (int t = 0; t < task.num_tokens; ++t) {
      float* d = task.args.d + (task.token + t) * static_cast<int64_t>(task.problem.n) + task.channel;
      for (int c = 0; c < task.num_channels; c += V::kLanes) {
        const int count = task.num_channels - c;
        F y = V::load(sums + t * kW16Channels + c);
        if (task.args.bias != nullptr) y = V::add(y, load_some<V>(task.args.bias + task.channel + c, count));
        if (task.problem.output == GemmOutput::add_f32) y = V::add(load_some<V>(d + c, count), y);
        store_some<V>(d + c, y, count);
      }
    }
  }
};

}  // namespace comet
