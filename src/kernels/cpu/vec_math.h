// SPDX-License-Identifier: Apache-2.0
// The stated fp32 sequences of quant/fp32.h on vectors, bit for bit; V is a Vec of one ISA. Only for ISA files.
#pragma once

#include "kernels/cpu/gemm_epilogue.h"
#include "quant/fp32.h"

namespace comet {

template <class V>
static inline typename V::F exp2_stated(typename V::F x) {
  const auto n = V::rint(x), f = V::sub(x, n);
  auto p = V::set(0x1.5c10d4p-10f);
  p = V::fma(f, p, V::set(0x1.3cee66p-7f));
  p = V::fma(f, p, V::set(0x1.c6b64ep-5f));
  p = V::fma(f, p, V::set(0x1.ebf9aep-3f));
  p = V::fma(f, p, V::set(0x1.62e42ap-1f));
  p = V::fma(f, p, V::set(1.0f));
  const auto y = V::from_bits(V::add(V::bits(p), V::to_exponent(V::to_int(n))));
  const auto infinity = V::from_bits(V::set(0x7f800000));
  // NaN is not less than anything and must come out as itself, so the upper bound is asked the other way round.
  const auto below_top = V::select_less(V::set(0x1.fffffep+6f), x, infinity, y);
  return V::select_less(x, V::set(-126.0f), V::zero(), below_top);
}

template <class V>
static inline typename V::F silu(typename V::F x) {
  const auto minus_x = V::from_bits(V::flip_sign(V::bits(x)));
  return V::div(x, V::add(V::set(1.0f), exp2_stated<V>(V::mul(minus_x, V::set(kLog2E)))));
}

// Chain j takes x[j], x[j + 128], ..; then a halving tree 64, 32, .. 1.
template <class V, typename T>
static inline float sum_of_squares(const T* x, int n) {
  constexpr int kVecs = 128 / V::kLanes;
  typename V::F chain[kVecs];
  COMET_UNROLL
  for (int j = 0; j < kVecs; ++j) chain[j] = V::zero();
  int i = 0;
  for (; i + 128 <= n; i += 128) {
    COMET_UNROLL
    for (int j = 0; j < kVecs; ++j) {
      const auto v = V::load(x + i + j * V::kLanes);
      chain[j] = V::fma(v, v, chain[j]);
    }
  }
  // A chain that has ended takes +0 * +0, which leaves it as it is: it is never -0.
  for (int j = 0; i + j * V::kLanes < n; ++j) {
    const auto v = load_some<V>(x + i + j * V::kLanes, n - i - j * V::kLanes);
    chain[j] = V::fma(v, v, chain[j]);
  }
  COMET_UNROLL
  for (int half = kVecs / 2; half >= 1; half /= 2)
    for (int j = 0; j < half; ++j) chain[j] = V::add(chain[j], chain[j + half]);
  return V::sum(chain[0]);
}

// Normalized Hadamard of 128 points in place: strides 1, 2, .. 64, then one multiply.
template <class V, int kStride>
static inline void hadamard_stage(typename V::F* x) {
  constexpr int kVecs = 128 / V::kLanes;
  if constexpr (kStride < V::kLanes) {
    // Lane with the stride's bit clear: x + other; set: other - x.
    COMET_UNROLL
    for (int j = 0; j < kVecs; ++j)
      x[j] = V::add(V::template swap<kStride>(x[j]), V::template negate_upper<kStride>(x[j]));
  } else {
    constexpr int kStep = kStride / V::kLanes;
    COMET_UNROLL
    for (int j = 0; j < kVecs; ++j)
      if ((j & kStep) == 0) {
        const auto u = x[j], v = x[j + kStep];
        x[j] = V::add(u, v);
        x[j + kStep] = V::sub(u, v);
      }
  }
}

template <class V>
static inline void hadamard128(float* data, float scale) {
  constexpr int kVecs = 128 / V::kLanes;
  typename V::F x[kVecs];
  COMET_UNROLL
  for (int j = 0; j < kVecs; ++j) x[j] = V::load(data + j * V::kLanes);
  hadamard_stage<V, 1>(x);
  hadamard_stage<V, 2>(x);
  hadamard_stage<V, 4>(x);
  hadamard_stage<V, 8>(x);
  hadamard_stage<V, 16>(x);
  hadamard_stage<V, 32>(x);
  hadamard_stage<V, 64>(x);
  COMET_UNROLL
  for (int j = 0; j < kVecs; ++j) V::store(data + j * V::kLanes, V::mul(x[j], V::set(scale)));
}

}  // namespace comet
