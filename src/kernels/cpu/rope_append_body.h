// SPDX-License-Identifier: Apache-2.0
// Norm, RoPE, Hadamard, quantization and append of one token after the other, for any vector width (S: the ISA's Simd).
#pragma once

#include "kernels/cpu/rope_append_tokens.h"

namespace comet {

template <class S>
struct RopeAppend {
  // The values of a head, then zeros up to the padded dimension.
  COMET_HD void load_head(const RopeAppendTokens& a, int64_t at, float* x) {
    const int d = a.head_dim;
    const uint16_t* words = static_cast<const uint16_t*>(a.qkv) + at;
    const float* floats = static_cast<const float*>(a.qkv) + at;
    for (int i = 0; i < a.layout.dim; i += S::kLanes) {
      auto v = S::set(0.0f);
      if (i < d) v = a.qkv_is_bf16 ? S::load_first_bf16(words + i, d - i) : S::load_first(floats + i, d - i);
      S::store(x + i, v);
    }
  }

  // sum_of_squares() of quant/fp32.h: x has zeros behind its values, which leave the chains as they are.
  COMET_HD float sum_of_squares_lanes(const float* x) {
    alignas(64) float chain[128];
    for (int j = 0; j < 128; j += S::kLanes) {
      const auto a = S::load(x + j), b = S::load(x + j + 128);
      S::store(chain + j, S::fma(b, b, S::fma(a, a, S::set(0.0f))));
    }
    for (int half = 64; half >= S::kLanes; half /= 2)
      for (int j = 0; j < half; j += S::kLanes)
        S::store(chain + j, S::add(S::load(chain + j), S::load(chain + j + half)));
    return S::halving_sum(S::load(chain));
  }

  COMET_HD void apply_norm(const RopeAppendTokens& a, const float* gain, float* x) {
    const auto inverse = S::set(rms_inverse(sum_of_squares_lanes(x), a.head_dim, a.norm_eps));
    for (int i = 0; i < a.head_dim; i += S::kLanes)
      S::store(x + i, S::mul(S::mul(S::load(x + i), inverse), S::load(gain + i)));
  }

  COMET_HD void rotate_pairs(const RopeAppendTokens& a, int position, float* x) {
    const int half = a.head_dim / 2;
    const float* cos = a.cos + int64_t{position} * half;
    const float* sin = a.sin + int64_t{position} * half;
    for (int i = 0; i < half; i += S::kLanes) {
      const int n = half - i;
      const auto u = S::load_first(x + i, n), v = S::load_first(x + half + i, n);
      const auto c = S::load_first(cos + i, n), s = S::load_first(sin + i, n);
      S::store_first(x + i, S::sub(S::mul(u, c), S::mul(v, s)), n);
      S::store_first(x + half + i, S::add(S::mul(v, c), S::mul(u, s)), n);
    }
  }

  COMET_HD void hadamard_lanes(float* x, int d, float scale) {
    if (d < S::kLanes) {
      hadamard(x, d, scale);
      return;
    }
    const auto factor = S::set(scale);
    for (int i = 0; i < d; i += S::kLanes) {
      auto v = S::load(x + i);
      v = S::template butterfly<1>(v);
      v = S::template butterfly<2>(v);
      v = S::template butterfly<4>(v);
      if constexpr (S::kLanes == 16) v = S::template butterfly<8>(v);
      S::store(x + i, d == S::kLanes ? S::mul(v, factor) : v);
    }
    for (int stride = S::kLanes; stride < d; stride *= 2)
      for (int i = 0; i < d; i += 2 * stride)
        for (int j = i; j < i + stride; j += S::kLanes) {
          auto u = S::load(x + j), v = S::load(x + j + stride);
          auto sum = S::add(u, v), difference = S::sub(u, v);
          if (stride * 2 == d) sum = S::mul(sum, factor), difference = S::mul(difference, factor);
          S::store(x + j, sum);
          S::store(x + j + stride, difference);
        }
  }

  COMET_HD bool is_finite_head(const float* x, int dim) {
    bool bad = false;
    for (int i = 0; i < dim; i += S::kLanes) bad = bad | S::any_not_finite(S::load(x + i));
    return !bad;
  }

  // kv_group_params() and kv_encode() of n finite values, n a multiple of 64.
  COMET_HD KvGroupParams encode(const float* x, int n, int bits, int8_t* codes) {
    auto low = S::set(0.0f), high = S::set(0.0f);
    for (int i = 0; i < n; i += S::kLanes) {
      low = S::min(low, S::load(x + i));
      high = S::max(high, S::load(x + i));
    }
    const float ends[2] = {S::min_lane(low), S::max_lane(high)};
    const KvGroupParams params = kv_group_params(ends, 2, bits);
    const float s = to_float(params.scale);
    if (!params.is_finite || !(s > 0.0f)) {
      for (int i = 0; i < n; ++i) codes[i] = 0;
      return params;
    }
    const auto scale = S::set(s), zero = S::set(static_cast<float>(params.zero));
    const auto least = S::set(bits == 4 ? 0.0f : -127.0f), most = S::set(bits == 4 ? 15.0f : 127.0f);
    for (int i = 0; i < n; i += S::kLanes) {
      auto code = S::round(S::div(S::load(x + i), scale));
      if (bits == 4) code = S::add(code, zero);
      S::store_8(codes + i, S::round_to_int(S::min(most, S::max(least, code))));
    }
    return params;
  }

  COMET_HD void write_key(const KvLayout& layout, uint8_t* data, int token, int group, const int8_t* codes,
                          KvGroupParams params) {
    uint8_t* cell = data + kv_key_byte(layout.bits, token, group * kKeyGroup);
    for (int step = 0; step < 8; ++step, cell += 4 * kv_cell_bytes(layout.bits)) {
      uint32_t low, high;
      __builtin_memcpy(&low, codes + step * 8, 4);
      __builtin_memcpy(&high, codes + step * 8 + 4, 4);
      if (layout.bits == 4) {
        low |= high << 4;
      } else {
        low ^= 0x80808080u;
        high ^= 0x80808080u;
        __builtin_memcpy(cell + 64, &high, 4);
      }
      __builtin_memcpy(cell, &low, 4);
    }
    __builtin_memcpy(data + layout.key_scales + (group * kKvBlock + token) * 2, &params.scale.bits, 2);
    if (layout.bits == 4) data[layout.key_zeros + static_cast<uint32_t>(group * kKvBlock + token)] = params.zero;
  }

  COMET_HD void write_value(const KvLayout& layout, uint8_t* data, int token, const int8_t* codes,
                            KvGroupParams params) {
    for (int c = 0; c < layout.dim; c += kValueCellChannels) {
      uint8_t* cell = data + layout.v_codes + kv_value_byte(layout.bits, token, c);
      for (int w = 0; w < 16; ++w) {
        const uint8_t low = static_cast<uint8_t>(codes[c + w]), high = static_cast<uint8_t>(codes[c + 16 + w]);
        if (layout.bits == 4) {
          cell[4 * w] = static_cast<uint8_t>(low | high << 4);
        } else {
          cell[4 * w] = low;
          cell[4 * w + 64] = high;
        }
      }
    }
    __builtin_memcpy(data + layout.value_scales + token * 2, &params.scale.bits, 2);
    if (layout.bits == 4) data[layout.value_zeros + static_cast<uint32_t>(token)] = params.zero;
  }

  // One head's K and V into its slot; false when a scale is not finite.
  COMET_HD bool append(const KvLayout& layout, uint8_t* data, int token, const float* key, const float* value) {
    if (layout.bits == 16) {
      uint16_t* keys = reinterpret_cast<uint16_t*>(data);
      uint16_t* values = reinterpret_cast<uint16_t*>(data + layout.v_codes);
      for (int i = 0; i < layout.dim; ++i) {
        keys[kv16_key_index(layout.dim, token, i)] = to_bf16(key[i]).bits;
        values[kv16_value_index(layout.dim, token, i)] = to_bf16(value[i]).bits;
      }
      return true;
    }
    bool finite = true;
    alignas(64) int8_t codes[kMaxHeadDim];
    for (int g = 0; g * kKeyGroup < layout.dim; ++g) {
      const KvGroupParams params = encode(key + g * kKeyGroup, kKeyGroup, layout.bits, codes);
      write_key(layout, data, token, g, codes, params);
      finite = finite && params.is_finite;
    }
    const KvGroupParams params = encode(value, layout.dim, layout.bits, codes);
    write_value(layout, data, token, codes, params);
    return finite && params.is_finite;
  }

  COMET_HD uint8_t* head_data(const RopeAppendTokens& a, int64_t t, int kv_head) {
    const BatchView& b = *a.batch;
    const int32_t block = b.block_tables[int64_t{b.token_seqs[t]} * b.block_table_stride + b.positions[t] / kKvBlock];
    return a.cache + (static_cast<size_t>(block) * static_cast<size_t>(a.num_kv_heads) + static_cast<size_t>(kv_head)) *
                         a.layout.bytes;
  }

  COMET_HD void append_token(const RopeAppendTokens& a, int64_t t) {
    const int d = a.head_dim, position = a.batch->positions[t], slot = position % kKvBlock;
    const int64_t row = t * (a.num_heads + 2 * a.num_kv_heads) * d;
    alignas(64) float x[kMaxHeadDim], value[kMaxHeadDim];
    for (int i = a.layout.dim; i < kMaxHeadDim; i += S::kLanes) S::store(x + i, S::set(0.0f));  // for apply_norm
    bool finite = true;
    for (int h = 0; h < a.num_heads + a.num_kv_heads; ++h) {
      const bool is_query = h < a.num_heads;
      const float* gain = is_query ? a.q_gain : a.k_gain;
      load_head(a, row + int64_t{h} * d, x);
      if (gain != nullptr) apply_norm(a, gain, x);
      rotate_pairs(a, position, x);
      if (a.k_rotate) hadamard_lanes(x, d, a.hadamard_scale);
      finite = finite && is_finite_head(x, a.layout.dim);
      if (is_query) {
        float* q = a.q + (t * a.num_heads + h) * d;
        for (int i = 0; i < d; i += S::kLanes) S::store_first(q + i, S::load(x + i), d - i);
        continue;
      }
      load_head(a, row + int64_t{h + a.num_kv_heads} * d, value);
      finite = finite && is_finite_head(value, a.layout.dim);
      if (finite) finite = append(a.layout, head_data(a, t, h - a.num_heads), slot, x, value);
    }
    if (!finite) clear_token(a, t, slot);
  }

  // The whole row counts as zero, so that nothing non-finite reaches anyone.
  COMET_HD void clear_token(const RopeAppendTokens& a, int64_t t, int slot) {
    if (a.row_errors[t] == 0) a.row_errors[t] = a.error_tag;
    const float zeros[kMaxHeadDim] = {};
    for (int h = 0; h < a.num_kv_heads; ++h) append(a.layout, head_data(a, t, h), slot, zeros, zeros);
    float* q = a.q + t * a.num_heads * a.head_dim;
    for (int64_t i = 0; i < int64_t{a.num_heads} * a.head_dim; ++i) q[i] = 0.0f;
  }

  COMET_HD void run(const RopeAppendTokens& a) {
    for (int64_t t = a.first; t < a.end; ++t) append_token(a, t);
  }
};

}  // namespace comet
