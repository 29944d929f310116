// SPDX-License-Identifier: Apache-2.0
// Softmax in integers: each token's share as a whole number, so that sums are exact in any order and on every machine.
#pragma once

#include <cstdint>
#include <span>

namespace comet {

// A weight is the probability relative to the best token in units of 2^-44; kMaxVocab of the largest sum to 2^63.
constexpr int kWeightBits = 44;
constexpr uint64_t kWeightOne = uint64_t{1} << kWeightBits;
constexpr int kMaxVocab = 1 << 19;

// weights[i] = rne(exp(max(-64, (double(x[i]) - max) * inv_temperature)) * 2^44), exp being the stated sequence in
// softmax.cc (IEEE double operations, none contracted). Every x is at most max, which is finite; -inf is allowed.
// weights is as long as x. Returns their sum.
uint64_t softmax_weights(std::span<const float> x, float max, double inv_temperature, std::span<uint64_t> weights);
// The sum alone.
uint64_t sum_softmax_weights(std::span<const float> x, float max, double inv_temperature);

// log(x) for finite x >= 1, as a stated sequence of double operations; within 1e-15 absolute + relative.
double stated_log(double x);

// x is not empty and has no NaN.
float row_max(std::span<const float> x);
float row_min(std::span<const float> x);
bool is_finite_row(std::span<const float> x);
// A value that at least min(k, size) elements reach, close to the k-th largest when k is small beside the row. k >= 1.
float kth_largest_bound(std::span<const float> x, int k);

}  // namespace comet
