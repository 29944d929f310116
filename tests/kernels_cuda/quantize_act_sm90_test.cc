// SPDX-License-Identifier: Apache-2.0
// quantize_act_ax_sm90 against the reference, bit for bit: every source, layout, region split, and rows that are zero,
// tiny, huge or not finite.
#include "kernels/cuda/quantize_act_sm90.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "bench/gemm/device_array.h"
#include "kernels/cuda/layouts_sm90.h"
#include "kernels_cuda/device.h"
#include "kernels_cuda/quantize_gates.h"
#include "kernels_cuda/quantize_samples.h"

namespace comet::cuda {
namespace {

// Plans that must give the same, beside the one that is chosen: any cluster whose CTAs the row fits, few and many CTAs,
// one and two tokens or groups a lane, rows in one part and in several.
std::vector<QuantizePlan> plans_of(const QuantizeActProblem& p, const QuantizeActArgs& args) {
  const bool is_permuted = args.perm != nullptr, is_tiles = args.out.layout == ActLayout::tiles_sm90;
  const QuantizePlan chosen = plan_quantize_act_sm90(p, args, 132);
  if (chosen.tokens == 0) return {chosen};
  std::vector<QuantizePlan> plans = {chosen};
  const bool is_normed = p.source == ActSource::rms_norm, is_picked = is_permuted || is_normed;
  for (const int cluster : {2, 4, 8})
    if (const int of_cta = (p.format.num_groups() + cluster - 1) / cluster; is_normed && of_cta <= kMostFewGroups) {
      QuantizePlan plan{1, 1, cluster, of_cta, padded_tokens(p.m) * cluster, 132};
      plan.is_few = true;
      plans.push_back(plan);
    }
  for (const int teams : {1, 2, 3, 4, 5})
    for (const int ctas : {1, 7, 132}) {
      QuantizePlan plan{1, 1, 1, round_up(p.format.num_groups(), 4), ctas, 132};
      plan.teams = teams;
      if (is_tiles && is_picked && fits_teams_sm90(p, teams)) plans.push_back(plan);
      plan.units = 2, plan.is_wide = true;
      if (is_tiles && fits_wide_sm90(p, args.gain_dtype, teams)) plans.push_back(plan);
    }
  const int most_tokens = is_permuted && p.source == ActSource::bf16 && p.format.k_in <= kMostPairChannels ? 2 : 1;
  const int most_units = p.source == ActSource::silu_mul ? 2 : 1;
  for (const int cluster : {1, 2, 4, 8})
    for (int tokens = 1; tokens <= most_tokens; ++tokens)
      for (int units = 1; units <= most_units; ++units)
        for (const int clusters : {1, 24 / cluster, p.m}) {  // several passes a cluster, clusters without one, one each
          QuantizePlan plan{tokens, units, cluster, 0, clusters * cluster, 132};
          plan.cta_groups = round_up((p.format.num_groups() + cluster - 1) / cluster, 4 * units);
          if (plan.cta_groups > (units == 2 ? 112 : 64) || (!is_picked && plan.cta_groups * units > 112)) continue;
          if (quantize_shared_bytes_sm90(p, is_permuted, plan, 2) > kMostRowBytes) continue;
          plans.push_back(plan);
          if (!is_normed) continue;
          for (const int parts : {3, kMostParts}) {
            plan.parts = parts;
            plans.push_back(plan);
          }
        }
  return plans;
}

// A sample on the device, and what the kernels make of it.
struct DeviceSampleSm90 {
  DeviceSampleSm90(const QuantizeCase& c_, ActLayout layout_)
      : c(c_),
        layout(layout_),
        padded(padded_tokens(c.m)),
        want(c),
        x(want.x),
        gain(want.gain),
        perm(want.perm),
        rows(want.rows),
        values(static_cast<size_t>(padded) * c.k),
        multipliers(c.m * (c.k / kGroup)),
        group_sums(c.m * (c.k / kGroup)),
        factors(padded),
        scales(padded),
        sums(padded),
        errors(c.m),
        args(want.args_at(x.data(), rows.data(), gain.data(), perm.data())) {
    args.out = {layout,         values.data(), multipliers.data(), group_sums.data(),
                factors.data(), scales.data(), sums.data()};
    args.row_errors = errors.data();
  }

  void poison() {
    values.fill_bytes(0x55), multipliers.fill_bytes(0x55), group_sums.fill_bytes(0x55), factors.fill_bytes(0x55);
    scales.fill_bytes(0x55), sums.fill_bytes(0x55), errors.fill_bytes(0);
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
  }

  void expect_all_equal() {
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
    const auto tiles = values.to_host();
    size_t wrong = 0;
    for (int t = 0; t < padded; ++t)
      for (int k = 0; k < c.k; ++k)
        wrong += tiles[activation_offset_sm90(layout, c.m, t, k)] !=
                 (t < c.m ? want.values[static_cast<size_t>(t) * c.k + k] : 0);
    EXPECT_EQ(wrong, 0u);
    const auto is_equal = [](const auto& got, const auto& wanted) {
      return std::equal(wanted.begin(), wanted.end(), got.begin());
    };
    EXPECT_TRUE(is_equal(multipliers.to_host(), want.multipliers));
    EXPECT_TRUE(is_equal(group_sums.to_host(), want.group_sums));
    EXPECT_TRUE(is_equal(factors.to_host(), want.factors));
    EXPECT_TRUE(is_equal(scales.to_host(), want.scales));
    EXPECT_TRUE(is_equal(sums.to_host(), want.sums));
    EXPECT_TRUE(is_equal(errors.to_host(), want.errors));
  }

  QuantizeCase c;
  ActLayout layout;
  int padded;
  QuantizeSample want;
  DeviceArray<uint8_t> x, gain;
  DeviceArray<int32_t> perm, rows;
  DeviceArray<int8_t> values;
  DeviceArray<uint8_t> multipliers;
  DeviceArray<int16_t> group_sums;
  DeviceArray<int32_t> factors;
  DeviceArray<float> scales;
  DeviceArray<uint32_t> sums, errors;
  QuantizeActArgs args;
};

void check_case(const QuantizeCase& c, ActLayout layout) {
  DeviceSampleSm90 sample(c, layout);
  int left = c.m > 1000 ? 1 : 1000;  // plans
  for (const QuantizePlan& plan : plans_of(sample.want.problem, sample.args)) {
    if (left-- == 0) break;
    SCOPED_TRACE(fmt::format("tokens {} units {} cluster {} of {} groups, {} CTAs, {} parts, {} teams{}{}", plan.tokens,
                             plan.units, plan.cluster, plan.cta_groups, plan.ctas, plan.parts, plan.teams,
                             plan.is_few ? ", a warp a group" : "", plan.is_wide ? ", two groups a lane" : ""));
    sample.poison();
    if (plan.tokens == 0)
      quantize_act_ax_sm90(sample.want.problem, sample.args, nullptr);
    else
      launch_quantize_act_plan_sm90(sample.want.problem, sample.args, plan, nullptr);
    sample.expect_all_equal();
  }
}

class QuantizeActAxSm90 : public testing::TestWithParam<QuantizeCase> {};

TEST_P(QuantizeActAxSm90, EqualsReference) {
  if (!has_hopper()) GTEST_SKIP() << "no Hopper GPU";
  check_case(GetParam(), ActLayout::tiles_sm90);
  if (GetParam().m <= kMaxGemvTokens) check_case(GetParam(), ActLayout::fragments_sm90);
}

std::string case_name(const testing::TestParamInfo<QuantizeCase>& info) {
  return fmt::format("{}_{}", to_string(info.param), info.index);
}

// The last are for the kernel of one CTA a token: too long, permuted SiLU-mul, rows that are no whole pieces, and a row
// that shared memory does not hold.
INSTANTIATE_TEST_SUITE_P(
    Cases, QuantizeActAxSm90,
    testing::Values(QuantizeCase{1, 128, 128, 0, 8, false, false, ActSource::f32},
                    QuantizeCase{9, 1000, 1024, 2, 4, true, true, ActSource::f32},
                    QuantizeCase{17, 4096, 4096, 5, 4, true, true, ActSource::rms_norm},
                    QuantizeCase{8, 384, 384, 3, 8, false, true, ActSource::bf16},
                    QuantizeCase{40, 1500, 1536, 0, 4, true, false, ActSource::silu_mul},
                    QuantizeCase{33, 2048, 2048, 1, 8, true, true, ActSource::rms_norm},
                    QuantizeCase{12, 28672, 28672, 30, 4, true, false, ActSource::silu_mul},
                    QuantizeCase{257, 640, 640, 1, 4, false, true, ActSource::bf16},
                    QuantizeCase{16, 8192, 8192, 8, 8, false, true, ActSource::rms_norm},
                    QuantizeCase{25, 700, 768, 6, 8, false, true, ActSource::silu_mul},
                    QuantizeCase{19, 1496, 1536, 7, 4, true, false, ActSource::silu_mul},
                    QuantizeCase{30, 1000, 1152, 9, 4, true, false, ActSource::bf16},
                    QuantizeCase{10, 20480, 20480, 70, 8, true, false, ActSource::bf16},
                    QuantizeCase{700, 4096, 4224, 3, 4, true, false,
                                 ActSource::f32},  // from here on more tokens than resident CTAs
                    QuantizeCase{900, 8192, 8192, 7, 4, true, true, ActSource::rms_norm},
                    QuantizeCase{1100, 2560, 2560, 20, 8, false, true, ActSource::f32},
                    QuantizeCase{301, 16520, 16640, 1, 4, true, false, ActSource::silu_mul},
                    QuantizeCase{14, 14336, 14336, 0, 4, true, false, ActSource::silu_mul},
                    QuantizeCase{21, 4096, 4096, 2, 4, true, true, ActSource::bf16},
                    QuantizeCase{600, 2048, 2176, 6, 4, true, true, ActSource::bf16},
                    QuantizeCase{15, 8192, 8192, 0, 8, false, false, ActSource::rms_norm},  // head_in
                    QuantizeCase{9, 16384, 16384, 11, 4, true, true, ActSource::rms_norm},
                    QuantizeCase{5, 28672, 28672, 5, 4, true, true, ActSource::rms_norm},
                    QuantizeCase{150, 28672, 28672, 9, 4, true, true, ActSource::rms_norm, DType::bf16},
                    QuantizeCase{17, 14336, 14336, 3, 4, true, true, ActSource::rms_norm, DType::f16},
                    QuantizeCase{45, 1000, 1024, 2, 4, true, true, ActSource::rms_norm, DType::bf16},
                    QuantizeCase{1400, 4096, 4096, 5, 4, true, true, ActSource::rms_norm, DType::bf16},
                    QuantizeCase{670, 5120, 5120, 9, 4, true, true, ActSource::rms_norm, DType::bf16},
                    QuantizeCase{701, 8192, 8192, 3, 8, true, true, ActSource::rms_norm, DType::f16},
                    QuantizeCase{12, 28664, 28672, 120, 8, true, true, ActSource::rms_norm, DType::bf16},
                    QuantizeCase{703, 12288, 12288, 9, 4, true, true, ActSource::rms_norm, DType::bf16},
                    QuantizeCase{23, 15000, 15104, 2, 4, false, true, ActSource::rms_norm, DType::f16},
                    QuantizeCase{701, 14336, 14336, 6, 4, true, true, ActSource::rms_norm},
                    QuantizeCase{40, 9608, 9728, 2, 8, true, true, ActSource::rms_norm},
                    QuantizeCase{3, 65536, 65536, 9, 4, true, false, ActSource::silu_mul},
                    QuantizeCase{140, 40960, 40960, 1, 4, true, false, ActSource::bf16},
                    QuantizeCase{6, 29696, 29696, 1, 4, true, true, ActSource::f32},
                    QuantizeCase{9, 2053, 2176, 3, 4, true, true, ActSource::rms_norm, DType::bf16},
                    QuantizeCase{140, 2053, 2176, 3, 4, true, true, ActSource::rms_norm, DType::bf16},
                    QuantizeCase{200, 1021, 1024, 2, 4, true, false, ActSource::silu_mul},
                    QuantizeCase{4, 60001, 60032, 5, 4, true, true, ActSource::rms_norm, DType::f16}),
    case_name);

// Rows that are copied while the ones before are coded: each launch gives what the first gave, which is right.
TEST(QuantizeActRepeatsSm90, AreIdentical) {
  if (!has_hopper()) GTEST_SKIP() << "no Hopper GPU";
  for (const QuantizeCase& c : {QuantizeCase{1400, 4096, 4096, 4, 4, true, true, ActSource::rms_norm, DType::bf16},
                                QuantizeCase{900, 5120, 5120, 4, 4, true, true, ActSource::rms_norm, DType::f16},
                                QuantizeCase{900, 8192, 8192, 4, 4, true, true, ActSource::rms_norm, DType::bf16},
                                QuantizeCase{700, 14336, 14336, 4, 4, true, true, ActSource::rms_norm, DType::bf16},
                                QuantizeCase{400, 28672, 28672, 4, 4, true, true, ActSource::rms_norm, DType::bf16}}) {
    SCOPED_TRACE(to_string(c));
    DeviceSampleSm90 sample(c, ActLayout::tiles_sm90);
    std::vector<int8_t> first;
    for (int i = 0; i < 200; ++i) {
      sample.poison();
      quantize_act_ax_sm90(sample.want.problem, sample.args, nullptr);
      if (i == 0) sample.expect_all_equal(), first = sample.values.to_host();
      COMET_CUDA_CHECK(cudaDeviceSynchronize());
      ASSERT_EQ(sample.values.to_host(), first) << "launch " << i;
    }
  }
}

TEST(QuantizeActPlanSm90, HoldsEveryGroupOnce) {
  for (const ActSource source : {ActSource::f32, ActSource::bf16, ActSource::rms_norm, ActSource::silu_mul})
    for (const int k : {128, 1152, 2048, 4096, 8192, 14336, 18944, 28672, 65536})
      for (const int m : {1, 2, 7, 16, 17, 33, 100, 256, 527, 528, 4096})
        for (const auto& [is_permuted, is_tiles, gain_dtype] :
             {std::tuple{false, true, DType::f32}, {true, true, DType::bf16}, {true, m > kMaxGemvTokens, DType::f32}}) {
          const QuantizeActProblem problem{m, {k, k, 0, 4, true, 1.0f, 1.0f}, source};
          const int32_t perm = 0;
          QuantizeActArgs args;
          args.perm = is_permuted ? &perm : nullptr, args.gain_dtype = gain_dtype;
          args.out.layout = is_tiles ? ActLayout::tiles_sm90 : ActLayout::fragments_sm90;
          const QuantizePlan plan = plan_quantize_act_sm90(problem, args, 132);
          SCOPED_TRACE(fmt::format("source {} k {} m {} permuted {} tiles {} gain {}", static_cast<int>(source), k, m,
                                   is_permuted, is_tiles, static_cast<int>(gain_dtype)));
          if (plan.tokens == 0) {
            if (!is_permuted) {
              EXPECT_GT(k, source == ActSource::rms_norm ? 28672 : 65535);
            }
            continue;
          }
          if (plan.teams > 0) {
            EXPECT_TRUE(plan.is_wide ? fits_wide_sm90(problem, gain_dtype, plan.teams)
                                     : fits_teams_sm90(problem, plan.teams));
            EXPECT_TRUE(is_permuted || source == ActSource::rms_norm);
            EXPECT_TRUE(is_tiles);
            EXPECT_EQ(plan.cluster, 1);
            EXPECT_GE(plan.cta_groups, k / kGroup);
            EXPECT_LE(plan.ctas, padded_tokens(m));
            continue;
          }
          EXPECT_GE(plan.cluster * plan.cta_groups, k / kGroup);
          EXPECT_EQ(plan.cta_groups % (plan.is_few ? 1 : 4 * plan.units), 0);
          EXPECT_LE(plan.cta_groups, plan.is_few ? kMostFewGroups : (plan.units == 2 ? 112 : 64));
          EXPECT_EQ(plan.ctas % plan.cluster, 0);
          EXPECT_GT(plan.ctas, 0);
          EXPECT_LE(plan.ctas, padded_tokens(m) * plan.cluster);
          EXPECT_LE(plan.tokens * plan.units, 2);
          EXPECT_LE(plan.parts, plan.tokens == 1 && source == ActSource::rms_norm ? kMostParts : 1);
          if (plan.is_few) {
            EXPECT_GT(plan.cluster, 1);
          }
        }
}

TEST(QuantizeActGateSm90, EveryGate) {
  if (!has_hopper()) GTEST_SKIP() << "no Hopper GPU";
  const DeviceArray<int8_t> values(static_cast<size_t>(kGates) * kGroup);
  check_every_gate(quantize_act_ax_sm90, ActLayout::tiles_sm90, values.data(), nullptr);
}

}  // namespace
}  // namespace comet::cuda
