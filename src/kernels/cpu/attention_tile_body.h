// SPDX-License-Identifier: Apache-2.0
// The walk of one attention task over its kv_blocks and the folding of blocks, splits and rows, for any vector width.
//
// S is the Simd of an ISA. Scheme does one kv_block for up to 8 rows: attention_int_body.h (kv4, kv8),
// attention_kv16_body.h. Everything lives in the namespace of the ISA through its template parameters.
#pragma once

#include "kernels/cpu/attention_tile.h"

namespace comet {

constexpr int kStepRows = 8;  // rows that go through a kv_block together: what the accumulators of 32 registers hold

// 2^x for x <= 0, as exp2_stated() says; NaN stays NaN.
template <class S>
COMET_HD typename S::Float exp2_stated_lanes(typename S::Float x) {
  const auto n = S::round(x), f = S::sub(x, n);
  auto p = S::set(0x1.5c10d4p-10f);
  p = S::fma(f, p, S::set(0x1.3cee66p-7f));
  p = S::fma(f, p, S::set(0x1.c6b64ep-5f));
  p = S::fma(f, p, S::set(0x1.ebf9aep-3f));
  p = S::fma(f, p, S::set(0x1.62e42ap-1f));
  p = S::fma(f, p, S::set(1.0f));
  p = S::from_bits(S::add_int(S::bits(p), S::shift_left_23(S::round_to_int(n))));
  return S::select(S::is_less(x, S::set(-126.0f)), S::set(0.0f), p);
}

// One split's or row's running state is m, l and O [dim]. Folds (m2, l2, o2), which comes later, into (m, l, o).
template <class S>
COMET_HD void fold_state(float* m, float* l, float* o, float m2, float l2, const float* o2, int dim) {
  const float top = *m < m2 ? m2 : *m;
  float scale[S::kLanes], scale2[S::kLanes];
  S::store(scale, exp2_stated_lanes<S>(S::set(*m - top)));
  S::store(scale2, exp2_stated_lanes<S>(S::set(m2 - top)));
  *m = top;
  *l = __builtin_fmaf(l2, scale2[0], *l * scale[0]);
  const auto s = S::set(scale[0]), s2 = S::set(scale2[0]);
  for (int i = 0; i < dim; i += S::kLanes) S::store(o + i, S::fma(S::load(o2 + i), s2, S::mul(S::load(o + i), s)));
}

template <class S>
COMET_HD void copy_lanes(float* to, const float* from, int dim) {
  for (int i = 0; i < dim; i += S::kLanes) S::store(to + i, S::load(from + i));
}

template <class S>
COMET_HD bool is_finite_row(const float* x, int n) {
  bool bad = false;
  for (int i = 0; i < n; i += S::kLanes) bad = bad | S::any_not_finite(S::load_first(x + i, n - i));
  return !bad;
}

// O / l to the output, as bf16 or fp32. +0 is added so that a zero has one sign whichever masked keys stood beside it
// (kv16).
template <class S>
COMET_HD void write_row(const AttentionTile& tile, int r, const float* o, float l, bool is_valid) {
  const auto divisor = S::set(l);
  alignas(64) float row[kMaxHeadDim];
  alignas(64) uint16_t words[kMaxHeadDim];
  for (int i = 0; i < tile.layout.dim; i += S::kLanes) {
    auto x = S::set(0.0f);
    if (is_valid) x = S::div(S::load(o + i), divisor);
    if (tile.layout.bits == 16) x = S::add(x, S::set(0.0f));
    S::store(row + i, x);
    if (!tile.out_is_bf16) continue;
    const auto bits = S::bits(x);
    const auto odd = S::and_int(S::shift_right_16(bits), S::set_int(1));
    auto rounded = S::shift_right_16(S::add_int(S::add_int(bits, S::set_int(0x7fff)), odd));
    S::store_16(words + i, rounded);
    if (S::any_not_finite(x))
      for (int j = i; j < i + S::kLanes; ++j) words[j] = to_bf16(row[j]).bits;
  }
  const size_t n = static_cast<size_t>(tile.head_dim);
  if (tile.out_is_bf16)
    __builtin_memcpy(tile.out[r], words, n * sizeof(uint16_t));
  else
    __builtin_memcpy(tile.out[r], row, n * sizeof(float));
}

// State of the rows of a task. The split's arrays are read 16 at a time from any row.
struct alignas(64) TileState {
  float split_m[kTileRows + 16], split_l[kTileRows + 16];
  float row_m[kTileRows], row_l[kTileRows];
  alignas(64) float split_o[kTileRows * kMaxHeadDim];  // [row][dim]
  alignas(64) float row_o[kTileRows * kMaxHeadDim];
};

constexpr int kSplitKeys = kBlocksPerSplit * kKvBlock;

COMET_HD float* partial_of(const AttentionTile& tile, int split, int r) {
  return tile.partials + (int64_t{split - tile.first_split} * tile.num_rows + r) * partial_floats(tile.layout.dim);
}

// The split of row r is complete: it goes to the partials, or into the row.
template <class S>
COMET_HD void close_split(const AttentionTile& tile, TileState& state, int r, int split) {
  const int dim = tile.layout.dim;
  const float* o = state.split_o + r * dim;
  if (tile.partials != nullptr) {
    float* partial = partial_of(tile, split, r);
    copy_lanes<S>(partial, o, dim);
    partial[dim] = state.split_m[r];
    partial[dim + 1] = state.split_l[r];
  } else if (split == tile.first_visible[r] / kSplitKeys) {
    copy_lanes<S>(state.row_o + r * dim, o, dim);
    state.row_m[r] = state.split_m[r];
    state.row_l[r] = state.split_l[r];
  } else {
    fold_state<S>(&state.row_m[r], &state.row_l[r], state.row_o + r * dim, state.split_m[r], state.split_l[r], o, dim);
  }
}

// Asks for bytes of the next kv_block: block tables jump, which no hardware prefetcher follows.
COMET_HD void prefetch(const uint8_t* p, uint32_t bytes) {
  for (uint32_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
}

template <class S, class Scheme>
uint32_t attend_tile(const AttentionTile& tile) {
  TileState state;
  typename Scheme::Scratch scratch;
  for (int r = 0; r < kTileRows + 16; ++r) state.split_m[r] = state.split_l[r] = 0.0f;
  uint32_t bad_rows = 0;
  for (int r = 0; r < tile.num_rows; ++r) {
    const bool finite = is_finite_row<S>(tile.q[r], tile.head_dim);
    if (!finite) bad_rows |= 1u << r;
    Scheme::prepare_row(tile, scratch, r, finite);
  }
  int first_row = 0, end_row = 0;  // rows that see keys of the kv_block
  for (int block = tile.first_block; block < tile.end_block; ++block) {
    const int first_key = block * kKvBlock;
    while (first_row < tile.num_rows && tile.num_keys[first_row] <= first_key) ++first_row;
    int begun = end_row;  // rows below saw an earlier kv_block
    while (end_row < tile.num_rows && tile.first_visible[end_row] < first_key + kKvBlock) ++end_row;
    if (block % kBlocksPerSplit == 0 || begun < first_row) begun = first_row;  // for all rows the first of the split
    const uint8_t* data = tile.cache + static_cast<size_t>(tile.block_table[block]) * tile.block_stride;
    const int next_block = block + 1 < tile.end_block ? block + 1 : block;
    const uint8_t* next = tile.cache + static_cast<size_t>(tile.block_table[next_block]) * tile.block_stride;
    if (tile.layout.bits != 16) prefetch(next + tile.layout.key_scales, tile.layout.bytes - tile.layout.key_scales);
    for (int r = first_row, rows; r < end_row; r += rows) {
      const bool is_first = r >= begun;
      const int rows_left = (is_first ? end_row : begun) - r;
      rows = rows_left < kStepRows ? rows_left : kStepRows;
      switch (rows) {
        case 1: Scheme::template step<1>(tile, state, scratch, data, next, r, first_key, is_first); break;
        case 2: Scheme::template step<2>(tile, state, scratch, data, next, r, first_key, is_first); break;
        case 3: Scheme::template step<3>(tile, state, scratch, data, next, r, first_key, is_first); break;
        case 4: Scheme::template step<4>(tile, state, scratch, data, next, r, first_key, is_first); break;
        case 5: Scheme::template step<5>(tile, state, scratch, data, next, r, first_key, is_first); break;
        case 6: Scheme::template step<6>(tile, state, scratch, data, next, r, first_key, is_first); break;
        case 7: Scheme::template step<7>(tile, state, scratch, data, next, r, first_key, is_first); break;
        default: Scheme::template step<8>(tile, state, scratch, data, next, r, first_key, is_first); break;
      }
    }
    const bool is_last_of_split = (block + 1) % kBlocksPerSplit == 0;
    for (int r = first_row; r < end_row; ++r)
      if (is_last_of_split || tile.num_keys[r] <= first_key + kKvBlock)
        close_split<S>(tile, state, r, block / kBlocksPerSplit);
  }
  if (tile.partials == nullptr)
    for (int r = 0; r < tile.num_rows; ++r)
      write_row<S>(tile, r, state.row_o + r * tile.layout.dim, state.row_l[r], (bad_rows >> r & 1u) == 0);
  return bad_rows;
}

template <class S>
uint32_t fold_tile(const AttentionTile& tile) {
  const int dim = tile.layout.dim;
  uint32_t bad_rows = 0;
  for (int r = 0; r < tile.num_rows; ++r) {
    const bool finite = is_finite_row<S>(tile.q[r], tile.head_dim);
    if (!finite) bad_rows |= 1u << r;
    alignas(64) float o[kMaxHeadDim];
    float m = 0.0f, l = 0.0f;
    const int first_split = tile.first_visible[r] / kSplitKeys;
    for (int split = first_split; split * kSplitKeys < tile.num_keys[r]; ++split) {
      const float* partial = partial_of(tile, split, r);
      if (split == first_split) {
        copy_lanes<S>(o, partial, dim);
        m = partial[dim];
        l = partial[dim + 1];
      } else {
        fold_state<S>(&m, &l, o, partial[dim], partial[dim + 1], partial, dim);
      }
    }
    write_row<S>(tile, r, o, l, finite);
  }
  return bad_rows;
}

}  // namespace comet
