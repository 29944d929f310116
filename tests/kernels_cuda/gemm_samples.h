// SPDX-License-Identifier: Apache-2.0
// Operands of gemm_w4ax or gemm_w8a8 in canonical order and what kernels/ref makes of them.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "kernels/gemm.h"

namespace comet::cuda {

struct GemmCase {
  int m, n, k, n8, bits2;
  bool bias, extreme;  // extreme: every product of the same sign at its largest, r at rmax
  GemmOutput output;
};

struct GemmSample {
  GemmProblem problem;
  int bits2 = 8;
  bool w8 = false;
  std::vector<int8_t> codes8;                             // w8: W8Weights, and none of the next line
  std::vector<uint8_t> codes, group_scales, group_zeros;  // W4axWeights
  std::vector<float> channel_scales, bias;                // bias: empty or [n]
  std::vector<int8_t> values;                             // ActLayout::rows
  std::vector<uint8_t> multipliers;
  std::vector<int16_t> group_sums;
  std::vector<float> scales;
  std::vector<int32_t> factors;
  std::vector<uint32_t> sums;
  std::vector<float> d0;      // what d holds before (add_f32)
  std::vector<uint8_t> want;  // d as the reference leaves it

  GemmSample() = default;
  explicit GemmSample(const GemmCase& c, bool w8 = false);
};

// The activations in an order of layouts_sm90.h; padding tokens hold anything.
std::vector<int8_t> values_sm90(const GemmSample& s, ActLayout layout);

// Compares bytes; names the first output that differs.
::testing::AssertionResult equals_reference(const std::vector<uint8_t>& got, const GemmSample& s);

}  // namespace comet::cuda
