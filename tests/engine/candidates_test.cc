// SPDX-License-Identifier: Apache-2.0
#include "engine/candidates.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "base/check.h"
#include "engine/random.h"
#include "engine/softmax.h"

namespace comet {
namespace {

struct Expected {
  float x;
  int32_t token;
  uint64_t weight;
};

// The same order by sorting everything.
std::vector<Expected> sorted(const std::vector<float>& x, double inv_temperature, uint64_t min_weight) {
  std::vector<uint64_t> weights(x.size());
  softmax_weights(x, row_max(x), inv_temperature, weights);
  std::vector<Expected> out;
  for (size_t i = 0; i < x.size(); ++i)
    if (weights[i] >= min_weight) out.push_back({x[i], static_cast<int32_t>(i), weights[i]});
  std::stable_sort(out.begin(), out.end(), [](const Expected& a, const Expected& b) { return a.x > b.x; });
  return out;
}

TEST(Candidates, EveryRankAndEveryBoundary) {
  Candidates candidates;
  for (uint32_t round = 0; round < 40; ++round) {
    const size_t n = round < 4 ? round + 1 : 300;
    const uint64_t steps = round % 3 == 0 ? 1 : round % 3 == 1 ? 20 : 4096;  // all equal, many ties, few ties
    std::vector<float> x(n);
    for (size_t i = 0; i < n; ++i)
      x[i] = static_cast<float>(random_bits(round, 0, static_cast<uint32_t>(i)) % steps) / 128.0f - 7.0f;
    if (round % 5 == 4) x[n / 2] = -std::numeric_limits<float>::infinity();
    const double inv_temperature = round % 2 == 0 ? 1.0 : 3.0;
    const uint64_t min_weight = round % 4 == 0 ? kWeightOne / 1000 : 1;
    candidates.collect(x, std::numeric_limits<float>::lowest(), row_max(x), inv_temperature, min_weight);
    const std::vector<Expected> expected = sorted(x, inv_temperature, min_weight);
    ASSERT_EQ(candidates.num_tokens(), expected.size());
    uint64_t sum = 0;
    for (size_t rank = 0; rank < expected.size(); ++rank) {
      for (const uint64_t weight : {sum, sum + expected[rank].weight - 1}) {  // first and last unit of its range
        const Candidates::Place place = candidates.at_weight(weight);
        ASSERT_EQ(place.token, expected[rank].token) << round << " " << rank;
        ASSERT_EQ(place.count, rank + 1);
        ASSERT_EQ(place.weight, sum + expected[rank].weight);
      }
      ASSERT_EQ(candidates.at_rank(rank).token, expected[rank].token);
      sum += expected[rank].weight;
    }
    ASSERT_EQ(candidates.total_weight(), sum);
    EXPECT_THROW(candidates.at_weight(sum), Error);
    EXPECT_THROW(candidates.at_rank(expected.size()), Error);
  }
}

TEST(Candidates, NothingAboveTheFloorIsAnError) {
  const std::vector<float> x = {1, 2};
  EXPECT_THROW(Candidates().collect(x, 3, 2, 1, 1), Error);
}

}  // namespace
}  // namespace comet
