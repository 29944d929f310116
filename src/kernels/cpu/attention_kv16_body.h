// SPDX-License-Identifier: Apache-2.0
// Attention over the bf16 cache for up to 8 rows and one kv_block, fp32, for any vector width.
//
// Outside the promise against the reference, but of one order on every ISA: a dot is one fma chain over the channels, a
// block's l the halving tree 32, 16, .. 1 over its keys, its output one fma chain over the keys; blocks, splits and
// rows fold as integer attention folds them. p is not rounded.
#pragma once

#include "kernels/cpu/attention_tile_body.h"

namespace comet {

struct alignas(64) Kv16Scratch {
  alignas(64) float zeros[kMaxHeadDim];  // stands in for a q that is not finite
  const float* q[kTileRows];
  alignas(64) float x[kStepRows][kKvBlock];  // scores, then p
  float scale_old[kStepRows], scale_new[kStepRows];
};

template <class S>
struct Kv16Scheme {
  using Scratch = Kv16Scratch;
  static constexpr int kVectors = kKvBlock / S::kLanes;
  static constexpr int kAccumulators = S::kLanes;  // 16 of 32 registers, 8 of 16

  COMET_HD void prepare_row(const AttentionTile& tile, Scratch& s, int r, bool is_valid) {
    if (r == 0)
      for (float& zero : s.zeros) zero = 0.0f;
    s.q[r] = is_valid ? tile.q[r] : s.zeros;
  }

  template <int kRows>
  COMET_HD void step(const AttentionTile& tile, TileState& state, Scratch& s, const uint8_t* data, const uint8_t* next,
                     int r, int first_key, bool is_first) {
    prefetch(next, tile.layout.bytes);
    const uint16_t* keys = reinterpret_cast<const uint16_t*>(data);
    const uint16_t* values = reinterpret_cast<const uint16_t*>(data + tile.layout.v_codes);
    scores<kRows>(tile, s, keys, r);
    for (int i = 0; i < kRows; ++i) softmax(tile, state, s, r, i, first_key, is_first);
    const int keys_left = tile.num_keys[r + kRows - 1] - first_key, skipped = tile.first_visible[r] - first_key;
    weigh<kRows>(tile, state, s, values, r, skipped > 0 ? skipped : 0, keys_left < kKvBlock ? keys_left : kKvBlock,
                 is_first);
  }

  template <int kRows>
  COMET_HD void scores(const AttentionTile& tile, Scratch& s, const uint16_t* keys, int r) {
    constexpr int kMost = kAccumulators / kRows < 1 ? 1 : kAccumulators / kRows;
    constexpr int kColumns = kMost >= 4 ? 4 : kMost >= 2 ? 2 : 1;
    const auto factor = S::set(tile.score_scale);
    for (int column = 0; column < kVectors; column += kColumns) {
      typename S::Float sum[kRows][kColumns];
      for (int i = 0; i < kRows; ++i)
        for (int c = 0; c < kColumns; ++c) sum[i][c] = S::set(0.0f);
      for (int channel = 0; channel < tile.head_dim; ++channel) {
        typename S::Float key[kColumns];
        for (int c = 0; c < kColumns; ++c)
          key[c] = S::load_bf16(keys + kv16_key_index(tile.layout.dim, (column + c) * S::kLanes, channel));
        for (int i = 0; i < kRows; ++i) {
          const auto q = S::set(s.q[r + i][channel]);
          for (int c = 0; c < kColumns; ++c) sum[i][c] = S::fma(key[c], q, sum[i][c]);
        }
      }
      for (int i = 0; i < kRows; ++i)
        for (int c = 0; c < kColumns; ++c) S::store(&s.x[i][(column + c) * S::kLanes], S::mul(sum[i][c], factor));
    }
  }

  COMET_HD void softmax(const AttentionTile& tile, TileState& state, Scratch& s, int r, int i, int first_key,
                        bool is_first) {
    const int num_keys = tile.num_keys[r + i] - first_key, skipped = tile.first_visible[r + i] - first_key;
    const auto masked = S::set(-__builtin_inff());
    auto top = masked;
    for (int v = 0; v < kVectors; ++v) {
      float* at = &s.x[i][v * S::kLanes];
      auto x = S::select(S::first_lanes(num_keys - v * S::kLanes), S::load(at), masked);
      if (skipped > 0) x = S::select(S::first_lanes(skipped - v * S::kLanes), masked, x);
      S::store(at, x);
      top = S::max(top, x);
    }
    float m = S::max_lane(top);
    typename S::Float p[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      float* at = &s.x[i][v * S::kLanes];
      p[v] = exp2_stated_lanes<S>(S::sub(S::load(at), S::set(m)));
      S::store(at, p[v]);
    }
    for (int half = kVectors / 2; half >= 1; half /= 2)
      for (int v = 0; v < half; ++v) p[v] = S::add(p[v], p[v + half]);
    float l = S::halving_sum(p[0]);
    if (!is_first) {
      const float block_m = m, old_m = state.split_m[r + i];
      m = old_m < m ? m : old_m;
      alignas(64) float old_lanes[S::kLanes], new_lanes[S::kLanes];
      S::store(old_lanes, exp2_stated_lanes<S>(S::set(old_m - m)));
      S::store(new_lanes, exp2_stated_lanes<S>(S::set(block_m - m)));
      s.scale_old[i] = old_lanes[0];
      s.scale_new[i] = new_lanes[0];
      l = __builtin_fmaf(l, s.scale_new[i], state.split_l[r + i] * s.scale_old[i]);
    }
    state.split_m[r + i] = m;
    state.split_l[r + i] = l;
  }

  // Keys [begin, end) are in the cache for every row of the step; those that a row does not see have p = 0 there.
  template <int kRows>
  COMET_HD void weigh(const AttentionTile& tile, TileState& state, Scratch& s, const uint16_t* values, int r, int begin,
                      int end, bool is_first) {
    constexpr int kMost = kAccumulators / kRows < 1 ? 1 : kAccumulators / kRows;
    constexpr int kColumns = kMost >= 4 ? 4 : kMost >= 2 ? 2 : 1;
    const int dim = tile.layout.dim;
    for (int channel = 0; channel < dim; channel += kColumns * S::kLanes) {
      typename S::Float sum[kRows][kColumns];
      for (int i = 0; i < kRows; ++i)
        for (int c = 0; c < kColumns; ++c) sum[i][c] = S::set(0.0f);
      for (int key = begin; key < end; ++key) {
        typename S::Float value[kColumns];
        for (int c = 0; c < kColumns; ++c)
          value[c] = S::load_bf16(values + kv16_value_index(dim, key, channel + c * S::kLanes));
        for (int i = 0; i < kRows; ++i) {
          const auto p = S::set(s.x[i][key]);
          for (int c = 0; c < kColumns; ++c) sum[i][c] = S::fma(p, value[c], sum[i][c]);
        }
      }
      for (int i = 0; i < kRows; ++i)
        for (int c = 0; c < kColumns; ++c) {
          float* at = state.split_o + (r + i) * dim + channel + c * S::kLanes;
          if (is_first)
            S::store(at, sum[i][c]);
          else
            S::store(at, S::fma(sum[i][c], S::set(s.scale_new[i]), S::mul(S::load(at), S::set(s.scale_old[i]))));
        }
    }
  }
};

}  // namespace comet
