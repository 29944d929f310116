// SPDX-License-Identifier: Apache-2.0
// The text of quantize_act_ax_sm80 and of Hopper's kernels for any row and for teams, lane by lane on
// the CPU, against the reference.
#include <gtest/gtest.h>

#include <string>

#include "kernels_simt/simt.h"

#include "kernels/cuda/quantize_act_sm80.h"
#include "kernels/cuda/tile/any_row.cuh"
#include "kernels/cuda/tile/quantize_out_sm80.cuh"
#include "kernels/cuda/tile/quantize_out_sm90.cuh"
#include "kernels/cuda/tile/quantize_rows_sm80.cuh"
#include "kernels_cuda/quantize_samples.h"
#include "kernels_simt/aligned.h"

namespace comet::cuda {
namespace {

alignas(128) char shared[228 * 1024];
RowShared row_shared;

}  // namespace

}  // namespace comet::cuda

#include "kernels/cuda/quantize_act_teams_sm90.cu"
#include "kernels/cuda/quantize_act_wide_sm90.cu"

namespace comet::cuda {
namespace {

struct Outputs {
  Outputs(size_t num_values, size_t num_multipliers, const QuantizeSample& s, size_t tokens)
      : values(num_values),
        multipliers(num_multipliers),
        group_sums(s.group_sums.size()),
        factors(tokens),
        scales(tokens),
        sums(tokens),
        errors(std::vector<uint32_t>(s.errors.size())) {}

  Aligned<int8_t> values;
  Aligned<uint8_t> multipliers;
  Aligned<int16_t> group_sums;
  Aligned<int32_t> factors;
  Aligned<float> scales;
  Aligned<uint32_t> sums, errors;
};

template <class Body>
void run(int ctas, int threads, const Body& body) {
  for (int cta = 0; cta < ctas; ++cta) {
    std::memset(shared, kPoison, sizeof(shared));
    std::memset(static_cast<void*>(&row_shared), kPoison, sizeof(row_shared));
    simt::run_cta(cta, ctas, threads, body);
  }
}

// All kernels that take the sample, with few CTAs, so that each takes tokens in turn.
void check_case(const QuantizeCase& c) {
  SCOPED_TRACE(to_string(c));
  ptx::shared_memory = shared;
  const QuantizeSample want(c);
  const Aligned<uint8_t> x(want.x), gain(want.gain);
  const Aligned<int32_t> perm(want.perm), rows(want.rows);
  const auto args_of = [&](const Outputs& out, ActLayout layout) {
    QuantizeActArgs args = want.args_at(x.data, rows.data, gain.data, perm.data);
    args.out = {layout,           out.values.data, out.multipliers.data, out.group_sums.data,
                out.factors.data, out.scales.data, out.sums.data};
    args.row_errors = out.errors.data;
    return args;
  };

  const PackedActsSm80 packed = pack_on_host_sm80(want);
  for (const DeviceSm80& device : {DeviceSm80{4, 164 * 1024}, DeviceSm80{400, 164 * 1024}, DeviceSm80{4, 8 * 1024}})
    for (const bool is_aligned : {true, false}) {
      QuantizePlanSm80 plan = plan_quantize_act_sm80(want.problem, c.permute, is_aligned, device);
      plan.ctas = 3;
      for (; plan.stages >= 0; --plan.stages) {
        if ((plan.rows == QuantizeRowsSm80::picked) != (plan.stages > 0)) break;
        SCOPED_TRACE(to_string(plan));
        const Outputs out(packed.values.size(), packed.multipliers.size(), want, want.scales.size());
        RowArgs k = make_row_args(want.problem, args_of(out, ActLayout::packed_sm80), plan.is_staged);
        k.row_bytes = picked_row_bytes(want.problem), k.stages = plan.stages;
        run(plan.ctas, plan.threads, [&] {
          if (plan.rows == QuantizeRowsSm80::any)
            quantize_rows_sm80<AnyRow, 0>(k, shared, row_shared);
          else if (plan.rows == QuantizeRowsSm80::silu && plan.units == 1)
            quantize_rows_sm80<SiluRow, 1>(k, shared, row_shared);
          else if (plan.rows == QuantizeRowsSm80::silu)
            quantize_rows_sm80<SiluRow, 2>(k, shared, row_shared);
          else if (c.source == ActSource::bf16)
            quantize_rows_sm80<PickedRow<bf16>, 1>(k, shared, row_shared);
          else
            quantize_rows_sm80<PickedRow<float>, 1>(k, shared, row_shared);
        });
        out.values.expect_equal("values", packed.values);
        out.multipliers.expect_equal("multipliers", packed.multipliers);
        out.group_sums.expect_equal("group_sums", want.group_sums);
        out.factors.expect_equal("region1_factors", want.factors);
        out.scales.expect_equal("scales", want.scales);
        out.sums.expect_equal("sums", want.sums);
        out.errors.expect_equal("row_errors", want.errors);
      }
    }

  const auto values_in = [&](ActLayout layout) {
    std::vector<int8_t> values(static_cast<size_t>(padded_tokens(c.m)) * c.k);
    for (int t = 0; t < c.m; ++t)
      for (int k = 0; k < c.k; ++k)
        values[activation_offset_sm90(layout, c.m, t, k)] = want.values[static_cast<size_t>(t) * c.k + k];
    return values;
  };
  const auto padded = [&](auto values, auto padding) {
    values.resize(padded_tokens(c.m), padding);
    return values;
  };
  const auto check_sm90 = [&](ActLayout layout, const auto& launch) {
    const std::vector<int8_t> values = values_in(layout);
    const Outputs out(values.size(), want.multipliers.size(), want, padded_tokens(c.m));
    launch(args_of(out, layout));
    out.values.expect_equal("values", values);
    out.multipliers.expect_equal("multipliers", want.multipliers);
    out.group_sums.expect_equal("group_sums", want.group_sums);
    out.factors.expect_equal("region1_factors", padded(want.factors, 1));
    out.scales.expect_equal("scales", padded(want.scales, 0.0f));
    out.sums.expect_equal("sums", padded(want.sums, 0u));
    out.errors.expect_equal("row_errors", want.errors);
  };
  for (const ActLayout layout : {ActLayout::tiles_sm90, ActLayout::fragments_sm90})
    for (const bool is_staged : {false, true}) {
      SCOPED_TRACE(is_staged ? "sm90, staged" : "sm90, in place");
      check_sm90(layout, [&](const QuantizeActArgs& args) {
        const RowArgs k = make_row_args(want.problem, args, is_staged && wants_staging(want.problem, args));
        run(5, 96, [&] {
          AnyRow row(k, shared, row_shared);
          quantize_rows<0>(k, row, output_sm90(k), row_shared);
        });
      });
    }
  std::vector<uint8_t> moved_gain(want.gain.size() + 2);
  std::copy(want.gain.begin(), want.gain.end(), moved_gain.begin() + 2);
  const Aligned<uint8_t> gain_not_aligned(moved_gain);
  for (const int teams : {1, 2, 3, 4, 5})
    for (const int ctas : {1, 4}) {
      const auto with_gain = [&](QuantizeActArgs args) {
        if (ctas > 1 && c.gain != DType::f32) args.gain = gain_not_aligned.data + 2;
        return args;
      };
      SCOPED_TRACE("sm90, " + std::to_string(teams) + " teams");
      QuantizePlan plan{1, 1, 1, round_up(want.problem.format.num_groups(), 4), ctas, 4};
      plan.teams = teams;
      if (c.k_in % 8 != 0) continue;
      if ((c.permute || c.source == ActSource::rms_norm) && fits_teams_sm90(want.problem, teams))
        check_sm90(ActLayout::tiles_sm90, [&](const QuantizeActArgs& args) {
          launch_quantize_act_teams_sm90(want.problem, with_gain(args), plan, nullptr);
        });
      if (fits_wide_sm90(want.problem, c.gain, teams))
        check_sm90(ActLayout::tiles_sm90, [&](const QuantizeActArgs& args) {
          launch_quantize_act_wide_sm90(want.problem, with_gain(args), plan, nullptr);
        });
    }
}

class QuantizeActSimt : public testing::TestWithParam<QuantizeCase> {};

TEST_P(QuantizeActSimt, EqualsReference) { check_case(GetParam()); }

std::string case_name(const testing::TestParamInfo<QuantizeCase>& info) {
  return to_string(info.param) + "_" + std::to_string(info.index);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, QuantizeActSimt,
    testing::Values(QuantizeCase{1, 128, 128, 0, 8, false, false, ActSource::f32},
                    QuantizeCase{9, 1000, 1024, 2, 4, true, true, ActSource::f32},
                    QuantizeCase{8, 1003, 1024, 2, 4, true, true, ActSource::f32},
                    QuantizeCase{9, 1024, 1024, 3, 4, false, true, ActSource::bf16},
                    QuantizeCase{8, 700, 768, 6, 8, false, true, ActSource::bf16},
                    QuantizeCase{8, 4480, 4480, 33, 4, true, false, ActSource::bf16},  // second block of constants
                    QuantizeCase{17, 1024, 1152, 5, 4, true, true, ActSource::rms_norm, DType::bf16},
                    QuantizeCase{8, 2500, 2560, 2, 8, true, true, ActSource::rms_norm, DType::f16},
                    QuantizeCase{10, 512, 512, 4, 4, true, false, ActSource::rms_norm},
                    QuantizeCase{12, 1496, 1536, 7, 4, true, false, ActSource::silu_mul},
                    QuantizeCase{8, 1496, 1536, 12, 4, true, false, ActSource::silu_mul},
                    QuantizeCase{8, 9000, 9088, 5, 4, true, false, ActSource::silu_mul},  // one and two groups a lane
                    QuantizeCase{9, 1001, 1024, 2, 4, true, true, ActSource::silu_mul},
                    QuantizeCase{29, 1496, 1536, 3, 4, true, true, ActSource::rms_norm},  // teams, some warps idle
                    QuantizeCase{33, 384, 384, 1, 8, true, true, ActSource::rms_norm, DType::f16},
                    QuantizeCase{18, 4096, 4096, 5, 4, true, false, ActSource::rms_norm, DType::bf16},
                    QuantizeCase{18, 4608, 4608, 5, 4, true, true, ActSource::rms_norm},
                    QuantizeCase{17, 8704, 8832, 6, 4, true, true, ActSource::rms_norm},  // order in shared memory
                    QuantizeCase{9, 15000, 15104, 2, 4, true, true, ActSource::rms_norm,
                                 DType::f16},  // wide: two groups a lane
                    QuantizeCase{3, 28664, 28672, 120, 8, true, true, ActSource::rms_norm, DType::bf16},
                    QuantizeCase{21, 2000, 2048, 9, 4, true, true, ActSource::bf16}),
    case_name);

}  // namespace
}  // namespace comet::cuda
