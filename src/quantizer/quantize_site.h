// SPDX-License-Identifier: Apache-2.0
// The quantizer's core: the linears that share one input, usable without a model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/backend.h"
#include "quant/activations.h"
#include "quantizer/recipe.h"

namespace comet {

// One float linear of a site, row-major [n, k_in]; k_in channels of the site's input.
struct SiteLinear {
  std::string name;
  int n = 0;
  std::vector<float> weights;
};

// What calibration saw at the input of a site, in the order of its channels; empty when nothing was calibrated.
struct SiteStatistics {
  std::vector<float> absmax;   // [k_in]
  std::vector<float> samples;  // [num_samples, k_in] rows of the input
  int num_samples = 0;
  std::vector<float>
      gram;  // [k_in, k_in]: sum over all rows of x x^T / rows; empty unless the recipe has error feedback

  bool is_empty() const { return absmax.empty(); }
};

struct QuantizedLinear {
  std::string name;
  int n = 0;
  std::vector<uint8_t> codes, group_scales, group_zeros;  // [n, k/2], [n, k/128], [n, k/128]
  std::vector<float> channel_scales;                      // [n]
};

struct QuantizedSiteResult {
  ActFormat format;
  std::vector<int32_t> perm;  // [k]; -1 = padding
  std::vector<QuantizedLinear> linears;
  double output_error = 0.0;  // ||W x - W' x'|| / ||W x|| over the samples
};

// fixed_order: the channels keep their order (down_in, whose order is folded elsewhere).
// The result does not depend on the number of threads.
QuantizedSiteResult quantize_site(const std::vector<SiteLinear>& linears, int k_in, const SiteStatistics& statistics,
                                  const Recipe& recipe, bool fixed_order, Backend& backend, ThreadPool& threads);

// Channels by falling absmax, ties by index: the order that puts outliers into the first groups.
std::vector<int32_t> outliers_first(const std::vector<float>& absmax);

// n8 of a site for a recipe.
int choose_int8_groups(const std::vector<float>& absmax, int num_groups, const Recipe& recipe);

}  // namespace comet
