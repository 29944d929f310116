// SPDX-License-Identifier: Apache-2.0
// Properties of the number formats; their bits are held against the NumPy model in tests/contract.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/check.h"
#include "quant/activations.h"
#include "quant/kv.h"
#include "quant/quantize_weights.h"
#include "quant/rope.h"

namespace comet {
namespace {

TEST(Exp2, IsCloseAndNeverAboveOneForNegatives) {
  double worst = 0.0;
  for (float x = -126.0f; x < 127.9f; x += 0.00137f) {
    const double exact = std::exp2(static_cast<double>(x)), got = static_cast<double>(exp2_stated(x));
    worst = std::max(worst, std::fabs(got - exact) / exact);
    if (x <= 0.0f) {
      ASSERT_LE(got, 1.0) << x;
    }
  }
  EXPECT_LT(worst, 1.7e-7);
  EXPECT_EQ(exp2_stated(0.0f), 1.0f);
  EXPECT_EQ(exp2_stated(-126.5f), 0.0f);
  EXPECT_EQ(exp2_stated(128.0f), INFINITY);
}

TEST(Hadamard, IsItsOwnInverse) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const int n : {2, 8, 64, 128, 256}) {
    std::vector<float> x(static_cast<size_t>(n));
    for (float& v : x) v = normal(random);
    std::vector<float> y = x;
    hadamard(y.data(), n, hadamard_scale(n));
    hadamard(y.data(), n, hadamard_scale(n));
    for (int i = 0; i < n; ++i) EXPECT_NEAR(y[static_cast<size_t>(i)], x[static_cast<size_t>(i)], 1e-5f);
  }
}

// Every group of 8-bit weights: legal parameters, and no rounding error above s1 / 2.
TEST(Weights, RoundToNearestIsLegalForEveryRange) {
  int moved = 0;
  for (int low = -119; low <= 0; ++low)
    for (int high = 0; high <= 119; ++high) {
      const GroupParams p = group_params_rtn(low, high);
      ASSERT_TRUE(is_legal_group(p.s1, p.z)) << low << " " << high;
      if (p.z != static_cast<int>(std::nearbyint(static_cast<float>(-low) / static_cast<float>(p.s1)))) ++moved;
      for (const int w : {low, high, low / 2, high / 2, 0}) {
        const int code = static_cast<int>(
            clampf(rne(static_cast<float>(w) / static_cast<float>(p.s1)) + static_cast<float>(p.z), 0.0f, 15.0f));
        ASSERT_LE(2 * std::abs(dequantize_w8(code, p.s1, p.z) - w), p.s1) << low << " " << high << " " << w;
      }
    }
  EXPECT_EQ(moved, 282);
}

TEST(Weights, RowErrorsStayWithinHalfAStep) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  const int k = 512;
  std::vector<float> w(k);
  for (float& v : w) v = normal(random);
  const float s0 = channel_scale_rtn(w.data(), k);
  std::vector<uint8_t> codes(k / 2), scales(k / kGroup), zeros(k / kGroup);
  quantize_row_rtn(w.data(), k, s0, codes.data(), scales.data(), zeros.data());
  for (int i = 0; i < k; ++i) {
    const int s1 = scales[static_cast<size_t>(i / kGroup)];
    const float back = s0 * static_cast<float>(dequantize_w8(unpack_nibble(codes.data(), i), s1,
                                                             zeros[static_cast<size_t>(i / kGroup)]));
    EXPECT_LE(std::fabs(back - w[static_cast<size_t>(i)]), s0 * (0.5f * static_cast<float>(s1) + 0.51f));
  }
}

TEST(Activations, FactorBoundKeepsInt32) {
  for (int groups = 1; groups <= kMaxK / kGroup; ++groups)
    for (const int n8 : {0, 1, groups / 2, groups})
      for (const int bits2 : {4, 8}) {
        if (n8 > groups) continue;
        const ActFormat f{.k_in = groups * kGroup, .k = groups * kGroup, .num_int8_groups = n8, .bits2 = bits2};
        const int64_t r = max_region1_factor(f);
        ASSERT_GE(r, 1);
        const int64_t worst = r * 127 * 128 * f.k1() + static_cast<int64_t>(region2_limit(bits2)) * 128 * f.k2();
        ASSERT_LE(worst, 2147483647) << groups << " " << n8;
      }
}

TEST(Kv, CodesComeBackWithinHalfAScale) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (const int bits : {4, 8}) {
    std::vector<float> x(64);
    for (float& v : x) v = normal(random) + 0.5f;
    const KvGroupParams p = kv_group_params(x.data(), 64, bits);
    ASSERT_TRUE(p.is_finite);
    const float s = to_float(p.scale);
    for (const float v : x)
      EXPECT_LE(std::fabs(s * static_cast<float>(kv_encode(v, p, bits) - p.zero) - v),
                0.51f * s + (bits == 4 ? 0.5f * s : 0.0f));
  }
}

TEST(Kv, NonFiniteValuesAndScalesAreSeen) {
  std::vector<float> x(64, 1.0f);
  x[5] = NAN;
  EXPECT_FALSE(kv_group_params(x.data(), 64, 4).is_finite);
  x[5] = 3e38f;  // the fp16 scale overflows
  EXPECT_FALSE(kv_group_params(x.data(), 64, 4).is_finite);
  std::fill(x.begin(), x.end(), 0.0f);
  const KvGroupParams zero = kv_group_params(x.data(), 64, 4);
  EXPECT_TRUE(zero.is_finite);
  EXPECT_EQ(kv_encode(0.0f, zero, 4), 0);
}

TEST(Rope, RefusesOddHeads) { EXPECT_THROW(make_rope_table({}, 63, 4), Error); }

}  // namespace
}  // namespace comet
