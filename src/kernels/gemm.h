// SPDX-License-Identifier: Apache-2.0
// Linear layers: d[m, n] = a[m, k] * b[n, k]^T on quantized activations, or on fp32 activations and 16/32-bit weights.
// POD only.
//
//   acc  = r[t] * (sum over region 1 of a8 * w8) + (sum over region 2 of value * w8)     exact int32
//   y    = (float(acc) * sx[t]) * s0[n]  (+ bias[n])                                       fp32, no contraction
#pragma once

#include "quant/activations.h"

namespace comet {

enum class GemmOutput : uint8_t {
  bf16,     // d: bf16 [m, n], y rounded
  f32,      // d: f32 [m, n]
  add_f32,  // d: f32 [m, n], d = d + y (the residual)
};

struct GemmProblem {
  int m = 0, n = 0, k = 0;  // quantized: k % 128 == 0
  int num_int8_groups = 0;  // groups of region 1
  GemmOutput output = GemmOutput::bf16;
};

// Weights in one kernel family's byte order, in one backend's memory; made by Backend::pack_*.
struct PackedWeights {
  void* data = nullptr;
  size_t bytes = 0;
  int n = 0, k = 0;
};

struct GemmArgs {  // gemm_w4ax and gemm_w8a8
  QuantizedActs a;
  PackedWeights b;
  const float* channel_scales = nullptr;  // [n]
  const float* bias = nullptr;            // [n] or null
  void* d = nullptr;                      // [m, n] row-major, dtype by GemmProblem::output
};

struct GemmW16Args {
  const float* a = nullptr;     // [m, k]
  const void* b = nullptr;      // [n, k] row-major
  DType b_dtype = DType::bf16;  // bf16, f16 or f32
  const float* bias = nullptr;  // [n] or null
  float* d = nullptr;           // [m, n]; GemmOutput f32 or add_f32
};

}  // namespace comet
