// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding: frequencies and angles in double on the host, cos and sin rounded once to fp32.
#pragma once

#include <vector>

namespace comet {

struct RopeConfig {
  enum class Scaling { none, linear, llama3 };
  double theta = 10000.0;
  Scaling scaling = Scaling::none;
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double original_max_positions = 8192.0;                // llama3
};

struct RopeTable {
  int half_dim = 0;             // head_dim / 2
  std::vector<float> cos, sin;  // [positions, half_dim]
};

// [head_dim / 2] angles per position, scaled.
std::vector<double> rope_inverse_frequencies(const RopeConfig& config, int head_dim);

RopeTable make_rope_table(const RopeConfig& config, int head_dim, int num_positions);

}  // namespace comet
