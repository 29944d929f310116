// SPDX-License-Identifier: Apache-2.0
// quantize_act_ax_sm80 on the host: plans hold every row, places of the byte order, the quotient of silu.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>
#include <tuple>

#include "kernels/cuda/quantize_act_sm80.h"
#include "kernels/cuda/tile/quotient.h"
#include "quant/fp32.h"

namespace comet::cuda {
namespace {

constexpr DeviceSm80 kA100{108, 164 * 1024}, kL40S{142, 100 * 1024};

QuantizeActProblem problem_of(int m, int k, ActSource source, int n8 = 0) {
  return {m, {k, k, n8, 4, true, 1.0f, 1.0f}, source};
}

TEST(QuantizePlanSm80, HoldsEveryGroup) {
  for (const ActSource source : {ActSource::f32, ActSource::bf16, ActSource::rms_norm, ActSource::silu_mul})
    for (const int k : {128, 1152, 4096, 8192, 14336, 16384, 28672, 53248, 131072})
      for (const int m : {1, 16, 17, 256, 4096})
        for (const DeviceSm80& device : {kA100, kL40S})
          for (const bool is_permuted : {false, true})
            for (const bool is_aligned : {false, true}) {
              const QuantizePlanSm80 plan =
                  plan_quantize_act_sm80(problem_of(m, k, source), is_permuted, is_aligned, device);
              SCOPED_TRACE(fmt::format("source {} k {} m {}: {}", static_cast<int>(source), k, m, to_string(plan)));
              const int lanes_groups = plan.threads / 8;
              if (plan.rows != QuantizeRowsSm80::any) {
                EXPECT_TRUE(is_aligned);
                EXPECT_GE(plan.units * lanes_groups, k / kGroup);
              }
              const int most = plan.rows == QuantizeRowsSm80::any      ? kAnyThreadsSm80
                               : plan.rows == QuantizeRowsSm80::picked ? kPickedThreadsSm80
                                                                       : kSiluThreadsSm80;
              EXPECT_LE(plan.threads, most);
              EXPECT_EQ(plan.threads % 32, 0);
              EXPECT_GE(plan.ctas, 1);
              EXPECT_LE(plan.ctas, padded_tokens_sm80(m));
              const int per_sm = (plan.ctas + device.num_sms - 1) / device.num_sms;
              EXPECT_LE(per_sm * (plan.shared_bytes + 1024 + 1280), device.shared_bytes);
              EXPECT_LE(per_sm * plan.threads, 48 * 32);
            }
}

TEST(QuantizePlanSm80, ChoosesByRow) {
  const auto rows = [](const QuantizeActProblem& p, bool is_permuted) {
    return plan_quantize_act_sm80(p, is_permuted, true, kA100).rows;
  };
  EXPECT_EQ(rows(problem_of(1, 4096, ActSource::rms_norm), true), QuantizeRowsSm80::picked);
  EXPECT_EQ(rows(problem_of(4096, 8192, ActSource::rms_norm), true), QuantizeRowsSm80::picked);
  EXPECT_EQ(rows(problem_of(64, 8192, ActSource::bf16), false), QuantizeRowsSm80::picked);
  EXPECT_EQ(rows(problem_of(64, 28672, ActSource::silu_mul), false), QuantizeRowsSm80::silu);
  EXPECT_EQ(rows(problem_of(64, 28672, ActSource::silu_mul), true), QuantizeRowsSm80::any);
  EXPECT_EQ(rows(problem_of(64, 53248, ActSource::silu_mul), false), QuantizeRowsSm80::any);
  // Few tokens of 14,336 channels: all warps of an SM for one. Many: half of them, so that two CTAs fit.
  EXPECT_EQ(plan_quantize_act_sm80(problem_of(16, 14336, ActSource::silu_mul), false, true, kA100).threads, 896);
  const QuantizePlanSm80 many =
      plan_quantize_act_sm80(problem_of(4096, 14336, ActSource::silu_mul), false, true, kA100);
  EXPECT_EQ(many.threads, 448);
  EXPECT_EQ(many.ctas, 2 * 108);
}

TEST(QuantizePlacesSm80, AreDistinctAndFill) {
  for (const int n8 : {0, 5, 33, 40})
    for (const int bits2 : {4, 8}) {
      constexpr int k = 40 * kGroup;
      const StepsSm80 steps = make_steps_sm80(k, n8, bits2);
      SCOPED_TRACE(fmt::format("n8 {} bits2 {}", n8, bits2));
      std::set<std::tuple<int, int, int, int>> nibbles;
      const auto add = [&](const ActPlaceSm80& at, int bits) {
        ASSERT_TRUE(at.step >= 0 && at.step < steps.total && at.t < 4 && at.word < 4 && at.bit + bits <= 32);
        for (int bit = at.bit; bit < at.bit + bits; bit += 4)
          ASSERT_TRUE(nibbles.insert({at.step, at.t, at.word, bit}).second);
      };
      for (int c = 0; c < k; ++c) {
        const ActPlaceSm80 at = code_place_sm80(steps, c);
        const bool is_wide = bits2 == 8 || c / kGroup < n8;
        EXPECT_EQ(step_kind(steps, at.step), is_wide ? StepKind::int8 : StepKind::int4);
        add(at, is_wide ? 8 : 4);
      }
      EXPECT_EQ(nibbles.size(), static_cast<size_t>(steps.total - steps.zero_steps) * 64 * 2);
      for (int g = bits2 == 4 ? n8 : k / kGroup; g < k / kGroup; ++g) {
        ActPlaceSm80 at = zero_place_sm80(steps, g);
        EXPECT_EQ(step_kind(steps, at.step), StepKind::zero);
        add(at, 8);
        at.word += 2;
        add(at, 8);
      }
    }
}

// silu's quotient is x / d whatever a GPU's approximate reciprocal is, within 4 units in the last place.
TEST(QuotientSm80, EqualsDivisionForEveryGate) {
  int wrong = 0, gates = 0;
  for (int bits = 0; bits < 65536; ++bits) {
    const float x = to_float(bf16{static_cast<uint16_t>(bits)});
    if (!(std::fabs(x) <= 80.0f)) continue;
    ++gates;
    const float d = 1.0f + exp2_stated(-x * kLog2E);
    for (int ulps = -static_cast<int>(kReciprocalUlps); ulps <= static_cast<int>(kReciprocalUlps); ++ulps)
      wrong += quotient(x, d, float_from_bits(float_bits(1.0f / d) + static_cast<uint32_t>(ulps))) != x / d;
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(gates, 34114);
}

}  // namespace
}  // namespace comet::cuda
