// SPDX-License-Identifier: Apache-2.0
// Rows of weights to codes: group parameters by search, rounding with or without error feedback.
#pragma once

#include <vector>

#include "base/thread_pool.h"
#include "quant/quantize_weights.h"
#include "quantizer/quantize_site.h"

namespace comet {

// The upper Cholesky factor U of the inverse of (gram + damp * mean diagonal), scaled so that row i is U[i][j] /
// U[i][i]: what an error in column i does to the columns j > i. k x k, row-major.
std::vector<float> error_feedback_factor(const std::vector<float>& gram, int k, double damp);

// Group parameters that lose least: sum over the group of importance[i] * (w1[i] - w8[i])^2, where w1 are the weights
// in units of the channel scale. importance null: all equal. With search false: round-to-nearest's parameters.
GroupParams choose_group_params(const float* w1, const float* importance, bool search);

// Quantizes all rows of `weights` [n, k] (transformed, padded).
// importance: [k] mean square of each channel, or empty. factor: error_feedback_factor, or empty.
QuantizedLinear quantize_rows(const std::string& name, const std::vector<float>& weights, int n, int k,
                              const std::vector<float>& importance, const std::vector<float>& factor, bool search,
                              ThreadPool& threads);

// s0 * w8 of every weight, [n, k].
std::vector<float> dequantize_rows(const QuantizedLinear& linear, int k);

}  // namespace comet
