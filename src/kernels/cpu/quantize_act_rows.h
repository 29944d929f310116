// SPDX-License-Identifier: Apache-2.0
// quantize_act on vectors, bit for bit as docs/formats.md states it; V is a Vec of one ISA. Only for ISA files.
#pragma once

#include "kernels/cpu/row_kernels.h"
#include "kernels/cpu/vec_math.h"

namespace comet {

template <class V, typename T>
static inline void widen_row(const T* x, int n, float* out) {
  for (int i = 0; i < n; i += V::kLanes) store_some<V>(out + i, load_some<V>(x + i, n - i), n - i);
}

// out = (x * inv) * gain
template <class V, typename T>
static inline void scale_row(const float* x, float inv, const T* gain, int n, float* out) {
  for (int i = 0; i < n; i += V::kLanes) {
    const auto scaled = V::mul(load_some<V>(x + i, n - i), V::set(inv));
    store_some<V>(out + i, V::mul(scaled, load_some<V>(gain + i, n - i)), n - i);
  }
}

template <class V>
static inline void rms_norm_row(const float* x, const void* gain, DType gain_dtype, float eps, int n, float* out) {
  const float inv = rms_inverse(sum_of_squares<V>(x, n), n, eps);
  switch (gain_dtype) {
    case DType::bf16: return scale_row<V>(x, inv, static_cast<const bf16*>(gain), n, out);
    case DType::f16: return scale_row<V>(x, inv, static_cast<const f16*>(gain), n, out);
    default: return scale_row<V>(x, inv, static_cast<const float*>(gain), n, out);
  }
}

template <class V, typename T>
static inline void silu_mul_row(const T* gate, const T* up, int n, float* out) {
  for (int i = 0; i < n; i += V::kLanes)
    store_some<V>(out + i, V::mul(silu<V>(load_some<V>(gate + i, n - i)), load_some<V>(up + i, n - i)), n - i);
}

// The site's input row, before permutation.
template <class V>
static inline void source_row(const QuantizeActProblem& p, const QuantizeActArgs& args, int64_t row, float* out) {
  const int n = p.format.k_in;
  switch (p.source) {
    case ActSource::f32: return widen_row<V>(static_cast<const float*>(args.x) + row * n, n, out);
    case ActSource::bf16: return widen_row<V>(static_cast<const bf16*>(args.x) + row * n, n, out);
    case ActSource::rms_norm:
      return rms_norm_row<V>(static_cast<const float*>(args.x) + row * n, args.gain, args.gain_dtype, args.eps, n, out);
    case ActSource::silu_mul: {
      const bf16* gate = static_cast<const bf16*>(args.x) + row * 2 * n;
      return silu_mul_row<V>(gate, gate + n, n, out);
    }
  }
}

// Bits of max |x| of a group: ordered as the values are, and at least those of infinity where one is not finite.
template <class V>
static inline uint32_t group_amax_bits(const float* x) {
  auto top = V::set(0);
  COMET_UNROLL
  for (int i = 0; i < kGroup; i += V::kLanes) {
    top = V::max_unsigned(top, V::bit_and(V::bits(V::load(x + i)), V::set(0x7fffffff)));
  }
  return V::max_unsigned(top);
}

// Codes of one group at 1 / step, stored times m; returns the sum of the codes.
template <class V>
static inline int encode_group(const float* x, float step, int limit, int m, int8_t* values) {
  const auto inv = V::set(1.0f / step);
  auto sum = V::set(0);
  COMET_UNROLL
  for (int i = 0; i < kGroup; i += V::kLanes) {
    const auto code = V::clamp(V::to_int(V::mul(V::load(x + i), inv)), V::set(-limit), V::set(limit));
    sum = V::add(sum, code);
    V::store_i8(values + i, m == 1 ? code : V::mul(code, V::set(m)));
  }
  return V::sum(sum);
}

// Quantizes the permuted and rotated row x; amax [k/128] are the groups' maxima, all finite.
template <class V>
static inline void encode_row(const ActFormat& f, const QuantizedActs& out, int64_t t, const float* x,
                              const float* amax) {
  const int groups = f.num_groups(), n8 = f.num_int8_groups;
  float amax1 = 0.0f, amax2 = 0.0f;
  for (int g = 0; g < groups; ++g) {
    float& top = g < n8 ? amax1 : amax2;
    top = amax[g] > top ? amax[g] : top;
  }
  const bool zero1 = amax1 < kMinAmax, zero2 = amax2 < kMinAmax;
  const TokenScales s = token_scales(amax1, amax2, f.clip1, f.clip2, region2_limit(f.bits2), max_region1_factor(f));
  uint32_t osum = 0;
  for (int g = 0; g < groups; ++g) {
    int8_t* values = out.values + t * f.k + g * kGroup;
    int m = 1, sum = 0;
    if (g < n8 ? zero1 : zero2) {
      memset(values, 0, kGroup);
    } else if (g < n8) {
      sum = encode_group<V>(x + g * kGroup, static_cast<float>(s.r) * s.sx, 127, 1, values);
    } else if (f.bits2 == 8) {
      sum = encode_group<V>(x + g * kGroup, s.sx, 127, 1, values);
    } else {
      m = group_multiplier(amax[g], f.clip2, s.sx);
      sum = encode_group<V>(x + g * kGroup, static_cast<float>(m) * s.sx, 7, m, values);
    }
    out.multipliers[t * groups + g] = static_cast<uint8_t>(m);
    out.group_sums[t * groups + g] = static_cast<int16_t>(sum);
    osum += static_cast<uint32_t>(g < n8 ? s.r : m) * static_cast<uint32_t>(sum);
  }
  out.scales[t] = s.sx;
  out.region1_factors[t] = s.r;
  out.sums[t] = osum;
}

static inline void zero_row(const ActFormat& f, const QuantizedActs& out, int64_t t) {
  const int groups = f.num_groups();
  memset(out.values + t * f.k, 0, static_cast<size_t>(f.k));
  memset(out.multipliers + t * groups, 1, static_cast<size_t>(groups));
  memset(out.group_sums + t * groups, 0, static_cast<size_t>(groups) * sizeof(int16_t));
  out.scales[t] = 0.0f;
  out.region1_factors[t] = 1;
  out.sums[t] = 0;
}

constexpr float kHadamardScale = 0x1.6a09e6p-4f;  // fp32(128^-1/2)

template <class V>
static inline void quantize_rows(const QuantizeActProblem& p, const QuantizeActArgs& args, int64_t begin, int64_t end,
                                 float* scratch) {
  const ActFormat& f = p.format;
  float* source = scratch + kRowLead;
  float* permuted = scratch + quantize_act_scratch_floats(f) - f.num_groups() - f.k;
  float* amax = permuted + f.k;
  source[-1] = 0.0f;  // what the permutation's -1 reads
  for (int64_t t = begin; t < end; ++t) {
    source_row<V>(p, args, args.row_ids != nullptr ? args.row_ids[t] : t, source);
    float* x = source;
    if (args.perm != nullptr) {
      x = permuted;
      for (int i = 0; i < f.k; ++i) x[i] = source[args.perm[i]];
    } else {
      for (int i = f.k_in; i < f.k; ++i) x[i] = 0.0f;
    }
    uint32_t top = 0;
    for (int g = 0; g < f.num_groups(); ++g) {
      if (f.rotate && g >= f.num_int8_groups) hadamard128<V>(x + g * kGroup, kHadamardScale);
      const uint32_t bits = group_amax_bits<V>(x + g * kGroup);
      amax[g] = float_from_bits(bits);
      top = bits > top ? bits : top;
    }
    if (top >= 0x7f800000u) {
      zero_row(f, args.out, t);
      if (args.row_errors[t] == 0) args.row_errors[t] = args.error_tag;
    } else {
      encode_row<V>(f, args.out, t, x, amax);
    }
  }
}

}  // namespace comet
