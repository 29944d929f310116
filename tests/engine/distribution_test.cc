// SPDX-License-Identifier: Apache-2.0
// Whether tokens come out as often as their probabilities say: chi-square over many draws with fixed seeds.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "reference_sampler.h"

namespace comet {
namespace {

// Pearson's statistic over cells with at least 5 expected draws (the rest pooled), as standard deviations above its
// mean: chi2 with f degrees of freedom has mean f and variance 2 f.
double chi_square_excess(const std::vector<double>& expected, const std::vector<int>& observed) {
  double statistic = 0, pooled_expected = 0, pooled_observed = 0;
  int cells = 0;
  const auto add = [&](double e, double o) {
    statistic += (o - e) * (o - e) / e;
    cells += 1;
  };
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i] >= 5) {
      add(expected[i], observed[i]);
    } else {
      pooled_expected += expected[i];
      pooled_observed += observed[i];
    }
  }
  if (pooled_expected >= 5) add(pooled_expected, pooled_observed);
  const double freedom = cells - 1;
  return freedom < 1 ? 0 : (statistic - freedom) / std::sqrt(2 * freedom);
}

// What varies from draw to draw: all three must give independent numbers.
enum class Vary { seed, choice, position };

double draw_many(const SamplingParams& params, std::span<const float> logits, Vary vary, int draws) {
  SampleInput in{.logits = logits, .params = &params, .seed = 1234};
  const std::vector<int32_t> output(static_cast<size_t>(draws), 0);
  std::vector<int> counts(logits.size(), 0);
  Sampler sampler;
  for (int i = 0; i < draws; ++i) {
    switch (vary) {
      case Vary::seed: in.seed = static_cast<uint64_t>(i); break;
      case Vary::choice: in.choice_idx = static_cast<uint32_t>(i); break;
      case Vary::position: in.output = std::span(output).first(static_cast<size_t>(i)); break;
    }
    counts[static_cast<size_t>(sampler.sample(in).token)] += 1;
  }
  in.output = {};
  std::vector<double> expected;
  std::vector<int> observed;
  int drawn = 0;
  for (const reference::Choice& choice : reference::distribution(in)) {
    expected.push_back(choice.probability * draws);
    observed.push_back(counts[static_cast<size_t>(choice.token)]);
    drawn += observed.back();
  }
  EXPECT_EQ(drawn, draws) << "a token came out that is not in the distribution";
  return chi_square_excess(expected, observed);
}

TEST(Distribution, ChiSquare) {
  std::mt19937 random(21);
  std::normal_distribution<float> bell(0, 1.5f);
  std::vector<float> logits(200);
  for (float& x : logits) x = bell(random);
  const SamplingParams all[] = {
      {},
      {.temperature = 0.5},
      {.temperature = 2},
      {.top_k = 20},
      {.top_p = 0.8},
      {.min_p = 0.1},
      {.temperature = 0.8, .top_k = 50, .top_p = 0.9, .min_p = 0.02},
  };
  for (const SamplingParams& params : all)
    for (const Vary vary : {Vary::seed, Vary::choice, Vary::position}) {
      const double excess = draw_many(params, logits, vary, 10000);
      EXPECT_LT(excess, 5) << "too uneven";  // 5 sigma and a heavy tail: still below 1e-4 by chance, seeds are fixed
      EXPECT_GT(excess, -4) << "too even";
    }
}

// The test itself must see a small error: one cell of 200 off by a tenth of the mass.
TEST(Distribution, ChiSquareSeesAShift) {
  std::vector<double> expected(200, 100.0);
  std::vector<int> observed(200, 100);
  for (size_t i = 0; i < 100; ++i) observed[i] = 115, observed[i + 100] = 85;
  EXPECT_GT(chi_square_excess(expected, observed), 5);
}

}  // namespace
}  // namespace comet
