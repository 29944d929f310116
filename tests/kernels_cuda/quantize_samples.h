// SPDX-License-Identifier: Apache-2.0
// Rows of every source and magnitude and what the reference makes of them, for the tests of quantize_act on CUDA.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/quantize_act.h"

namespace comet::cuda {

struct QuantizeCase {
  int m, k_in, k, n8, bits2;
  bool rotate, permute;
  ActSource source;
  DType gain = DType::f32;
};
std::string to_string(const QuantizeCase& c);

// Row 3 is zero, row 5 holds an infinity, row 6 a NaN, row 7 is tiny; rows are taken in reverse. clip 0.9 and 0.95.
struct QuantizeSample {
  explicit QuantizeSample(const QuantizeCase& c);

  // args with the inputs at these places instead.
  QuantizeActArgs args_at(const void* x_at, const int32_t* rows_at, const void* gain_at, const int32_t* perm_at) const;

  QuantizeCase shape;
  QuantizeActProblem problem;
  std::vector<uint8_t> x, gain;     // in the source's and the gain's type
  std::vector<int32_t> perm, rows;  // -1 behind the row's channels
  std::vector<int8_t> values;       // from here on the reference's, ActLayout::rows
  std::vector<uint8_t> multipliers;
  std::vector<int16_t> group_sums;
  std::vector<int32_t> factors;
  std::vector<float> scales;
  std::vector<uint32_t> sums, errors;
};

constexpr uint32_t kErrorTag = 77;

// A sample's values and multipliers as layouts_sm80.h states them, padding tokens included.
struct PackedActsSm80 {
  std::vector<int8_t> values;
  std::vector<uint8_t> multipliers;
};
PackedActsSm80 pack_on_host_sm80(const QuantizeSample& s);

}  // namespace comet::cuda
