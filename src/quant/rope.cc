// SPDX-License-Identifier: Apache-2.0
#include "quant/rope.h"

#include <cmath>
#include <numbers>

#include "base/check.h"

namespace comet {

std::vector<double> rope_inverse_frequencies(const RopeConfig& config, int head_dim) {
  COMET_CHECK(head_dim >= 2 && head_dim % 2 == 0, "head_dim = {}", head_dim);
  std::vector<double> inv_freq(static_cast<size_t>(head_dim / 2));
  for (int i = 0; i < head_dim / 2; ++i) {
    double f = 1.0 / std::pow(config.theta, 2.0 * i / head_dim);
    switch (config.scaling) {
      case RopeConfig::Scaling::none: break;
      case RopeConfig::Scaling::linear: f = f / config.factor; break;
      case RopeConfig::Scaling::llama3: {
        const double wavelength = 2.0 * std::numbers::pi / f;
        const double low_wavelength = config.original_max_positions / config.low_freq_factor;
        const double high_wavelength = config.original_max_positions / config.high_freq_factor;
        if (wavelength > low_wavelength) {
          f = f / config.factor;
        } else if (wavelength >= high_wavelength) {
          const double smooth = (config.original_max_positions / wavelength - config.low_freq_factor) /
                                (config.high_freq_factor - config.low_freq_factor);
          f = (1.0 - smooth) * f / config.factor + smooth * f;
        }
        break;
      }
    }
    inv_freq[static_cast<size_t>(i)] = f;
  }
  return inv_freq;
}

RopeTable make_rope_table(const RopeConfig& config, int head_dim, int num_positions) {
  const std::vector<double> inv_freq = rope_inverse_frequencies(config, head_dim);
  RopeTable table;
  table.half_dim = head_dim / 2;
  const size_t size = static_cast<size_t>(num_positions) * inv_freq.size();
  table.cos.resize(size);
  table.sin.resize(size);
  size_t at = 0;
  for (int position = 0; position < num_positions; ++position)
    for (const double f : inv_freq) {
      const double angle = static_cast<double>(position) * f;
      table.cos[at] = static_cast<float>(std::cos(angle));
      table.sin[at] = static_cast<float>(std::sin(angle));
      ++at;
    }
  return table;
}

}  // namespace comet
