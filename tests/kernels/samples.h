// SPDX-License-Identifier: Apache-2.0
// Random and adversarial operands of the linear kernels, all legal under the number contract.
#pragma once

#include <random>
#include <vector>

#include "backend_test.h"

namespace comet {

enum class Codes {
  random,
  extreme,  // every weight and activation at an end of its range, all of one sign in a group
};

struct WeightsSample {
  int n = 0, k = 0;
  std::vector<uint8_t> codes, group_scales, group_zeros;  // w4ax
  std::vector<int8_t> codes8;                             // w8a8
  std::vector<float> channel_scales, bias;

  W4axWeights w4ax() const {
    return {n, k, codes.data(), group_scales.data(), group_zeros.data(), channel_scales.data()};
  }
  W8Weights w8() const { return {n, k, codes8.data(), channel_scales.data()}; }
};

WeightsSample make_weights(int n, int k, Codes codes, unsigned seed);

struct ActsSample {
  int m = 0, k = 0, num_int8_groups = 0;
  std::vector<int8_t> values;
  std::vector<uint8_t> multipliers;
  std::vector<int16_t> group_sums;
  std::vector<int32_t> region1_factors;
  std::vector<float> scales;
  std::vector<uint32_t> sums;
};

// Factors r are random up to rmax, or all at rmax for extreme codes.
ActsSample make_acts(int m, int k, int num_int8_groups, int bits2, Codes codes, unsigned seed);

// The sample in a backend's memory.
struct DeviceActs {
  DeviceBuffer memory;
  QuantizedActs acts;
};
DeviceActs upload(Backend& backend, const ActsSample& sample);

// What a backend wrote, on the host.
ActsSample download(Backend& backend, const QuantizedActs& acts, int m, int k, int num_int8_groups);

}  // namespace comet
