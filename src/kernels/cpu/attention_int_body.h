// SPDX-License-Identifier: Apache-2.0
// Integer attention (kv4, kv8) of up to 8 rows over one kv_block, for any vector width.
//
// Dots is what differs by ISA: the exact integer products of q with the keys (scores) and of p with the values
// (values).
#pragma once

#include "kernels/cpu/attention_tile_body.h"

namespace comet {

// Queries of a task and the step's numbers on their way from scores to values.
struct alignas(64) IntScratch {
  int8_t q[kTileRows][kMaxHeadDim];          // codes, padding 0
  int32_t q_sums[kTileRows][kMaxKeyGroups];  // sum of a group's codes
  float c[kTileRows];
  alignas(64) float x[kStepRows][kKvBlock];    // scores before the factor c, scores, then u
  alignas(64) uint8_t p[kStepRows][kKvBlock];  // p8, words in the order of S::word_index
  float block_m[16], block_l[16], mu[16], up[16], down[16], scale_old[16], scale_new[16];
};

// How an accumulator of values becomes a part of the split's output.
template <class S>
struct OutputFold {
  float* o;  // [row][dim]
  int dim;
  bool is_first;
  const float *down, *scale_old, *scale_new;

  COMET_HD void apply(const OutputFold& f, int row, int channel, typename S::Int sum) {
    float* at = f.o + row * f.dim + channel;
    const auto o = S::mul(S::to_float(sum), S::set(f.down[row]));
    if (f.is_first)
      S::store(at, o);
    else
      S::store(at, S::fma(o, S::set(f.scale_new[row]), S::mul(S::load(at), S::set(f.scale_old[row]))));
  }
};

// (exp2(x) + 64) - 64 for x <= 0: exp2 is half a mantissa times 2^(n+1), both exact, so one fma rounds what the sum
// would.
template <class S>
COMET_HD typename S::Float exp2_rounded_lanes(typename S::Float x) {
  const auto shifter = S::set(
      12582912.0f + 128.0f);  // 1.5 * 2^23: rounds to integers; + 128 (even: keeps ties) puts n + 128 in the low bits
  x = S::max(S::set(-126.0f), x);  // NaN stays NaN
  const auto shifted = S::add(x, shifter);
  const auto f = S::sub(x, S::sub(shifted, shifter));
  auto p = S::set(0x1.5c10d4p-11f);
  p = S::fma(f, p, S::set(0x1.3cee66p-8f));
  p = S::fma(f, p, S::set(0x1.c6b64ep-6f));
  p = S::fma(f, p, S::set(0x1.ebf9aep-4f));
  p = S::fma(f, p, S::set(0x1.62e42ap-2f));
  p = S::fma(f, p, S::set(0.5f));
  return S::sub(S::fma(p, S::from_bits(S::shift_left_23(S::bits(shifted))), S::set(64.0f)), S::set(64.0f));
}

// Where a kv_block has keys that a row does not see: behind the row's position, and before its window.
enum class Mask { none, end, both_ends };

template <class S, class Dots>
struct IntScheme {
  using Scratch = IntScratch;
  static constexpr int kVectors = kKvBlock / S::kLanes;

  COMET_HD void prepare_row(const AttentionTile& tile, Scratch& s, int r, bool is_valid) {
    const int d = tile.head_dim, dim = tile.layout.dim;
    const float* q = tile.q[r];
    auto top = S::set(0.0f);
    for (int i = 0; i < d; i += S::kLanes) top = S::max(top, S::abs(S::load_first(q + i, d - i)));
    const float amax = S::max_lane(top);
    const bool is_zero = !is_valid || amax < kMinAmax;
    const float sq = amax / 127.0f;
    const auto inverse = S::set(1.0f / sq);
    for (int i = 0; i < dim; i += S::kLanes) {
      auto x = S::set(0.0f);
      if (!is_zero && i < d) x = S::mul(S::load_first(q + i, d - i), inverse);
      S::store_8(&s.q[r][i], S::round_to_int(S::max(S::set(-127.0f), S::min(S::set(127.0f), x))));
    }
    for (int g = 0; g * kKeyGroup < dim; ++g) {
      int sum = 0;
      for (int i = g * kKeyGroup; i < (g + 1) * kKeyGroup; ++i) sum += s.q[r][i];
      s.q_sums[r][g] = sum;
    }
    s.c[r] = is_zero ? 0.0f : sq * tile.score_scale;
  }

  template <int kRows>
  COMET_HD void step(const AttentionTile& tile, TileState& state, Scratch& s, const uint8_t* data, const uint8_t* next,
                     int r, int first_key, bool is_first) {
    const KvLayout& layout = tile.layout;
    Dots::template scores<kRows>(layout, data, next, &s.q[r], &s.q_sums[r], s.x);
    if (tile.first_visible[r + kRows - 1] > first_key)  // the last of these rows to begin
      softmax<Mask::both_ends>(tile, s, data, r, kRows, first_key);
    else if (tile.num_keys[r] - first_key < kKvBlock)  // the first of them to end
      softmax<Mask::end>(tile, s, data, r, kRows, first_key);
    else
      softmax<Mask::none>(tile, s, data, r, kRows, first_key);
    merge(state, s, r, kRows, is_first);
    const OutputFold<S> fold{state.split_o + r * layout.dim, layout.dim, is_first, s.down, s.scale_old, s.scale_new};
    Dots::template values<kRows>(layout, data, next, s.p, fold);
  }

  // x -> block_m, block_l, p8, down. Masked keys never meet a scale: their x is -inf and their u is 0 by selection.
  template <Mask kMask>
  __attribute__((noinline)) static void softmax(const AttentionTile& tile, Scratch& s, const uint8_t* data, int r,
                                                int rows, int first_key) {
    alignas(64) float lanes[kStepRows][S::kLanes], sums[kStepRows][S::kLanes];
    const auto masked = S::set(-__builtin_inff()), zero = S::set(0.0f);
    for (int i = 0; i < rows; ++i) {
      const auto c = S::set(s.c[r + i]);
      auto top = masked;
      for (int v = 0; v < kVectors; ++v) {
        auto x = S::mul(c, S::load(&s.x[i][v * S::kLanes]));
        if constexpr (kMask != Mask::none)
          x = S::select(S::first_lanes(tile.num_keys[r + i] - first_key - v * S::kLanes), x, masked);
        if constexpr (kMask == Mask::both_ends)
          x = S::select(S::first_lanes(tile.first_visible[r + i] - first_key - v * S::kLanes), masked, x);
        S::store(&s.x[i][v * S::kLanes], x);
        top = S::max(top, x);
      }
      S::store(lanes[i], top);
    }
    S::template fold_lanes<typename S::Max>(lanes, rows, s.block_m);

    typename S::Float value_scales[kVectors];
    for (int v = 0; v < kVectors; ++v)
      value_scales[v] = S::load_f16(reinterpret_cast<const uint16_t*>(data + tile.layout.value_scales) + v * S::kLanes);
    for (int i = 0; i < rows; ++i) {
      const auto block_m = S::set(s.block_m[i]);
      auto top = zero, sum = zero;
      for (int v = 0; v < kVectors; ++v) {
        const auto p = exp2_rounded_lanes<S>(S::sub(S::load(&s.x[i][v * S::kLanes]), block_m));
        auto u = S::mul(p, value_scales[v]);
        if constexpr (kMask != Mask::none)
          u = S::select(S::first_lanes(tile.num_keys[r + i] - first_key - v * S::kLanes), u, zero);
        if constexpr (kMask == Mask::both_ends)
          u = S::select(S::first_lanes(tile.first_visible[r + i] - first_key - v * S::kLanes), zero, u);
        S::store(&s.x[i][v * S::kLanes], u);
        sum = S::add(sum, p);
        top = S::max(top, u);
      }
      S::store(lanes[i], top);
      S::store(sums[i], sum);
    }
    S::template fold_lanes<typename S::Max>(lanes, rows, s.mu);
    S::template fold_lanes<typename S::Sum>(sums, rows, s.block_l);
    for (int i = 0; i < rows; i += S::kLanes) {
      const auto mu = S::load(s.mu + i);
      S::store(s.up + i, S::select(S::is_less(zero, mu), S::div(S::set(255.0f), mu), zero));
      S::store(s.down + i, S::div(mu, S::set(255.0f)));
    }
    for (int i = 0; i < rows; ++i) {
      const auto up = S::set(s.up[i]);
      typename S::Int codes[kVectors];
      for (int v = 0; v < kVectors; ++v) codes[v] = S::round_to_int(S::mul(S::load(&s.x[i][v * S::kLanes]), up));
      S::store_words(s.p[i], codes);
    }
  }

  // The block's m and l into the split's, and the two factors of the outputs.
  COMET_HD void merge(TileState& state, Scratch& s, int r, int rows, bool is_first) {
    for (int i = 0; i < rows; i += S::kLanes) {
      const auto keep = S::first_lanes(rows - i);
      const auto m = S::load(state.split_m + r + i), l = S::load(state.split_l + r + i);
      auto m2 = S::load(s.block_m + i), l2 = S::load(s.block_l + i);
      if (!is_first) {
        const auto top = S::max(m, m2);
        const auto scale_old = exp2_stated_lanes<S>(S::sub(m, top)), scale_new = exp2_stated_lanes<S>(S::sub(m2, top));
        S::store(s.scale_old + i, scale_old);
        S::store(s.scale_new + i, scale_new);
        m2 = top;
        l2 = S::fma(l2, scale_new, S::mul(l, scale_old));
      }
      S::store(state.split_m + r + i, S::select(keep, m2, m));
      S::store(state.split_l + r + i, S::select(keep, l2, l));
    }
  }
};

}  // namespace comet
