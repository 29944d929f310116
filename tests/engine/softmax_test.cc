// SPDX-License-Identifier: Apache-2.0
#include "engine/softmax.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "base/check.h"
#include "engine/random.h"

namespace comet {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// Multiples of 2^-10 in (-span, 0] from our own generator: the same on every machine.
std::vector<float> stated_row(size_t n, float span, uint64_t seed) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; ++i) {
    const auto steps = static_cast<uint64_t>(span * 1024);
    x[i] = -static_cast<float>(random_bits(seed, 0, static_cast<uint32_t>(i)) % steps) / 1024.0f;
  }
  return x;
}

uint64_t fnv(std::span<const uint64_t> words) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const uint64_t word : words) hash = (hash ^ word) * 0x100000001b3;
  return hash;
}

TEST(SoftmaxWeights, FollowTheExponential) {
  for (const double temperature : {0.01, 0.7, 1.0, 3.0}) {
    const std::vector<float> x = stated_row(4001, 60, 1);
    std::vector<uint64_t> weights(x.size());
    const uint64_t sum = softmax_weights(x, 0, 1 / temperature, weights);
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = std::exp(static_cast<double>(x[i]) * (1 / temperature)) * static_cast<double>(kWeightOne);
      // Half a unit of rounding, 1e-14 from the polynomial, 64 * 2^-53 from the exponent.
      ASSERT_NEAR(static_cast<double>(weights[i]), expected, 0.5 + expected * 2e-14) << x[i] << " / " << temperature;
    }
    EXPECT_EQ(sum, std::accumulate(weights.begin(), weights.end(), uint64_t{0}));
    EXPECT_EQ(sum, sum_softmax_weights(x, 0, 1 / temperature));
  }
}

TEST(SoftmaxWeights, Edges) {
  const float lowest = std::numeric_limits<float>::lowest();
  const std::vector<float> x = {5, 5, -kInf, lowest, -26.5f, 5};
  std::vector<uint64_t> weights(x.size());
  EXPECT_EQ(softmax_weights(x, 5, 1, weights), 3 * kWeightOne);
  EXPECT_EQ(weights, (std::vector<uint64_t>{kWeightOne, kWeightOne, 0, 0, 0, kWeightOne}));
  EXPECT_EQ(softmax_weights(x, 5, 1e5, weights), 3 * kWeightOne);     // the coldest temperature
  EXPECT_EQ(softmax_weights(x, 5, 1e-300, weights), 5 * kWeightOne);  // hot: all equal but what is masked
}

TEST(SoftmaxWeights, AreTheSameBitsEverywhere) {
  std::vector<uint64_t> weights(20000);
  softmax_weights(stated_row(20000, 40, 2), 0, 1 / 0.9, weights);
  EXPECT_EQ(fnv(weights), 11920241470691157243u);
}

TEST(StatedLog, FollowsTheLogarithm) {
  std::mt19937_64 random(3);
  EXPECT_EQ(stated_log(1.0), 0.0);
  for (int i = 0; i < 20000; ++i) {
    const double x = std::exp2(std::uniform_real_distribution<double>(0, i % 2 == 0 ? 70 : 1e-3)(random));
    ASSERT_NEAR(stated_log(x), std::log(x), 4e-16 * std::log(x) + 3e-16) << x;
  }
  EXPECT_THROW(stated_log(0.5), Error);
  EXPECT_THROW(stated_log(std::numeric_limits<double>::quiet_NaN()), Error);
  EXPECT_THROW(stated_log(std::numeric_limits<double>::infinity()), Error);
}

TEST(Row, MaxMinAndFinite) {
  for (const size_t n : {1, 2, 15, 16, 17, 100}) {
    for (size_t at = 0; at < n; ++at) {
      std::vector<float> x(n, -3);
      x[at] = -2;
      EXPECT_EQ(row_max(x), -2);
      EXPECT_EQ(row_min(x), n == 1 ? -2 : -3);
      x[at] = -4;
      EXPECT_EQ(row_min(x), -4);
      EXPECT_TRUE(is_finite_row(x));
      for (const float bad : {kInf, -kInf, std::numeric_limits<float>::quiet_NaN()}) {
        x[at] = bad;
        EXPECT_FALSE(is_finite_row(x)) << n << " " << at;
      }
    }
  }
  EXPECT_EQ(row_max(std::vector<float>(20, -kInf)), -kInf);
}

TEST(Row, KthLargestBoundIsReachedByThatMany) {
  for (const size_t n : {10, 64, 1000, 20000}) {
    std::vector<float> x = stated_row(n, 3, n);
    for (const int k : {1, 2, 7, 40, 300, 2000}) {
      const float bound = kth_largest_bound(x, k);
      const auto reached = std::count_if(x.begin(), x.end(), [&](float value) { return value >= bound; });
      EXPECT_GE(reached, std::min<std::ptrdiff_t>(k, static_cast<std::ptrdiff_t>(n)));
      if (static_cast<size_t>(k) * 128 <= n) {
        EXPECT_LE(reached, 8 * k) << "no use as a filter: " << n << " " << k;
      }
    }
  }
}

}  // namespace
}  // namespace comet
