// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/tile/fast_divisor.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <vector>

namespace comet::cuda {
namespace {

TEST(FastDivisor, QuotientsAreExact) {
  constexpr int kMost = std::numeric_limits<int>::max();
  std::mt19937 random(1);
  std::uniform_int_distribution<int> any(1, kMost);
  std::vector<int> divisors = {1, 2, 3, 5, 7, 127, 128, 129, 1 << 30, (1 << 30) + 1, kMost - 1, kMost};
  for (int i = 0; i < 200; ++i) divisors.push_back(any(random) >> i % 31 | 1);
  for (const int d : divisors) {
    const FastDivisor fast(d);
    EXPECT_EQ(int{fast}, d);
    const auto expect = [&](int x) {
      ASSERT_EQ(x / fast, x / d) << x << " / " << d;
      ASSERT_EQ(x % fast, x % d) << x << " % " << d;
    };
    for (const int x : {0, 1, d - 1, d, kMost - kMost % d, kMost - kMost % d - 1, kMost - 1, kMost}) expect(x);
    for (int i = 0; i < 2000; ++i) expect(any(random) >> i % 31);
  }
}

}  // namespace
}  // namespace comet::cuda
