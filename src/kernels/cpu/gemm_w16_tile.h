// SPDX-License-Identifier: Apache-2.0
// gemm_w16 in fp32 fma; V is a Vec of one ISA, kTileTokens x kTileChannels accumulators fill its registers.
// Only for ISA files.
#pragma once

#include "kernels/cpu/gemm_epilogue.h"
#include "kernels/cpu/gemm_w16.h"

namespace comet {

template <class V, int kTileTokens>
struct GemmW16 {
  static constexpr int kTileChannels = 4;  // sum4()
  using F = typename V::F;

  // One block of k: sums[t, c] = (is_first ? 0 : sums[t, c]) + dot(a[t], b[c]) over len values.
  template <typename T, int kTokens, int kChannels>
  static void dot_tile(const float* a, int64_t a_stride, const T* b, int64_t b_stride, int len, bool is_first,
                       float* sums) {
    F acc[kTokens][kChannels];
    COMET_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      COMET_UNROLL
      for (int c = 0; c < kChannels; ++c) acc[t][c] = V::zero();
    }
    auto step = [&](int i, auto load) __attribute__((always_inline)) {
      F w[kChannels];
      COMET_UNROLL
      for (int c = 0; c < kChannels; ++c) w[c] = load(b + c * b_stride + i);
      COMET_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        const F x = load(a + t * a_stride + i);
        COMET_UNROLL
        for (int c = 0; c < kChannels; ++c) acc[t][c] = V::fma(x, w[c], acc[t][c]);
      }
    };
    int i = 0;
    for (; i + V::kLanes <= len; i += V::kLanes)
      step(
          i, [](auto* p) __attribute__((always_inline)) { return V::load(p); });
    if (i < len)
      step(
          i, [&](auto* p) __attribute__((always_inline)) { return V::load_partial(p, len - i); });
    COMET_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      float* out = sums + t * kW16Channels;
      if constexpr (kChannels == 4) {
        const __m128 dot = V::sum4(acc[t][0], acc[t][1], acc[t][2], acc[t][3]);
        _mm_storeu_ps(out, is_first ? dot : _mm_add_ps(_mm_loadu_ps(out), dot));
      } else {
        const float dot = V::sum(acc[t][0]);
        out[0] = is_first ? dot : out[0] + dot;
      }
    }
  }

  // kTokens tokens against all channels of a block of weights.
  template <typename T, int kTokens>
  static void dot_channels(const float* a, int64_t a_stride, const T* b, int64_t b_stride, int num_channels, int len,
                           bool is_first, float* sums) {
    int c = 0;
    for (; c + kTileChannels <= num_channels; c += kTileChannels)
      dot_tile<T, kTokens, kTileChannels>(a, a_stride, b + c * b_stride, b_stride, len, is_first, sums + c);
    for (; c < num_channels; ++c)
      dot_tile<T, kTokens, 1>(a, a_stride, b + c * b_stride, b_stride, len, is_first, sums + c);
  }

  // The same for a number of tokens that is not a constant, 1..kTileTokens.
  template <typename T, int kTokens = kTileTokens>
  static void dot_some(int tokens, const float* a, int64_t a_stride, const T* b, int64_t b_stride, int num_channels,
                       int len, bool is_first, float* sums) {
    if (tokens == kTokens) return dot_channels<T, kTokens>(a, a_stride, b, b_stride, num_channels, len, is_first, sums);
    if constexpr (kTokens > 1)
      dot_some<T, kTokens - 1>(tokens, a, a_stride, b, b_stride, num_channels, len, is_first, sums);
  }

  // Rows of up to kW16Block values, widened and padded with zeros to kW16Block.
  template <typename T>
  static void widen_rows(const T* x, int64_t stride, int rows, int len, float* out) {
    for (int r = 0; r < rows; ++r)
      for (int i = 0; i < kW16Block; i += V::kLanes)
        V::store(out + r * kW16Block + i, i < len ? load_some<V>(x + r * stride + i, len - i) : V::zero());
  }

  template <typename T>
  static void sum_all(const W16Task& task, float* sums) {
    const int64_t k = task.problem.k;
    const float* a = task.args.a + task.token * k;
    const T* b = static_cast<const T*>(task.args.b) + task.channel * k;
    if (task.num_tokens <= kTileTokens) {  // weights are used once: straight from memory, channel by channel
      for (int c = 0; c < task.num_channels; c += kTileChannels) {
        const int count = task.num_channels - c < kTileChannels ? task.num_channels - c : kTileChannels;
        for (int64_t at = 0; at < k; at += kW16Block) {
          const int len = static_cast<int>(k - at < kW16Block ? k - at : kW16Block);
          dot_some<T>(task.num_tokens, a + at, k, b + c * k + at, k, count, len, at == 0, sums + c);
        }
      }
      return;
    }
    float* weights = task.scratch;
    float* acts = weights + kW16Channels * kW16Block;
    for (int64_t at = 0; at < k; at += kW16Block) {
      const int len = static_cast<int>(k - at < kW16Block ? k - at : kW16Block);
      const int padded = round_up(len, V::kLanes);
      widen_rows(b + at, k, task.num_channels, len, weights);
      for (int t = 0; t < task.num_tokens; t += kTileTokens) {
        const int tokens = task.num_tokens - t < kTileTokens ? task.num_tokens - t : kTileTokens;
        widen_rows(a + t * k + at, k, tokens, len, acts);
        dot_some<float>(tokens, acts, kW16Block, weights, kW16Block, task.num_channels, padded, at == 0,
                        sums + t * kW16Channels);
      }
    }
  }

  static void run(const W16Task& task) {
    float* sums = task.scratch + static_cast<size_t>(kW16Channels + 8) * kW16Block;
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
