// SPDX-License-Identifier: Apache-2.0
// The reference's fp32 sequences, weights, activations and linears against the NumPy model.
#include "contract/cases.h"
#include "kernels/backend.h"
#include "quant/fp32.h"
#include "quant/quantize_weights.h"
#include "quant/rope.h"

namespace comet::contract {
namespace {

// Host memory for QuantizedActs in rows layout.
struct Acts {
  Acts(int m, int k)
      : values(static_cast<size_t>(m) * k),
        multipliers(static_cast<size_t>(m) * (k / kGroup)),
        sums(multipliers.size()),
        r(m),
        sx(m),
        osum(m) {}
  QuantizedActs view() {
    return {.values = values.data(),
            .multipliers = multipliers.data(),
            .group_sums = sums.data(),
            .region1_factors = r.data(),
            .scales = sx.data(),
            .sums = osum.data()};
  }
  std::vector<int8_t> values;
  std::vector<uint8_t> multipliers;
  std::vector<int16_t> sums;
  std::vector<int32_t> r;
  std::vector<float> sx;
  std::vector<uint32_t> osum;
};

TEST(Contract, Exp2) {
  const CaseFile file("exp2");
  for (const std::string& name : file.names()) {
    std::vector<float> got;
    for (const float x : file.get<float>(name, "x")) got.push_back(exp2_stated(x));
    expect_same_bits(got, file.get<float>(name, "y"), name);
  }
}

TEST(Contract, RmsNorm) {
  const CaseFile file("rms_norm");
  const auto backend = ref_backend();
  for (const std::string& name : file.names()) {
    const std::vector<float> x = file.get<float>(name, "x"), gain = file.get<float>(name, "gain");
    std::vector<float> got(x.size());
    backend->rms_norm({.m = file.dim(name, "x", 0),
                       .hidden = file.dim(name, "x", 1),
                       .x = x.data(),
                       .gain = gain.data(),
                       .gain_dtype = DType::f32,
                       .eps = file.number(name, "eps"),
                       .out = got.data()});
    expect_same_bits(got, file.get<float>(name, "y"), name);
  }
}

// silu_mul's input is bf16: only the fused op takes it, so the stated functions are applied here as that op does.
TEST(Contract, SiluMul) {
  const CaseFile file("silu_mul");
  for (const std::string& name : file.names()) {
    const std::vector<float> x = to_f32(file.view(name, "gate_up"));
    const size_t m = static_cast<size_t>(file.dim(name, "gate_up", 0)),
                 width = static_cast<size_t>(file.dim(name, "gate_up", 1)) / 2;
    std::vector<float> got;
    for (size_t t = 0; t < m; ++t)
      for (size_t i = 0; i < width; ++i) got.push_back(silu(x[t * 2 * width + i]) * x[t * 2 * width + width + i]);
    expect_same_bits(got, file.get<float>(name, "y"), name);
  }
}

TEST(Contract, RopeTable) {
  const CaseFile file("rope_table");
  for (const std::string& name : file.names()) {
    RopeConfig rope{.theta = static_cast<double>(file.number(name, "theta")),
                    .scaling = static_cast<RopeConfig::Scaling>(file.integer(name, "kind"))};
    if (file.has(name, "factor")) rope.factor = static_cast<double>(file.number(name, "factor"));
    if (file.has(name, "low_freq_factor")) {
      rope.low_freq_factor = static_cast<double>(file.number(name, "low_freq_factor"));
      rope.high_freq_factor = static_cast<double>(file.number(name, "high_freq_factor"));
      rope.original_max_positions = file.integer(name, "original_context");
    }
    const std::vector<int32_t> positions = file.get<int32_t>(name, "positions");
    const RopeTable table = make_rope_table(rope, file.integer(name, "head_dim"),
                                            *std::max_element(positions.begin(), positions.end()) + 1);
    std::vector<float> cos, sin;
    for (const int32_t p : positions)
      for (int i = 0; i < table.half_dim; ++i) {
        cos.push_back(table.cos[static_cast<size_t>(p) * table.half_dim + i]);
        sin.push_back(table.sin[static_cast<size_t>(p) * table.half_dim + i]);
      }
    expect_same_bits(cos, file.get<float>(name, "cos"), name + ".cos");
    expect_same_bits(sin, file.get<float>(name, "sin"), name + ".sin");
  }
}

TEST(Contract, QuantizeWeightsRtn) {
  const CaseFile file("quantize_weights_rtn");
  for (const std::string& name : file.names()) {
    const std::vector<float> w = file.get<float>(name, "w");
    const int n = file.dim(name, "w", 0), k = file.dim(name, "w", 1);
    std::vector<uint8_t> codes(static_cast<size_t>(n) * k / 2), scales(static_cast<size_t>(n) * (k / kGroup)),
        zeros(scales.size());
    std::vector<float> channel_scales(static_cast<size_t>(n));
    for (int64_t row = 0; row < n; ++row) {
      channel_scales[row] = channel_scale_rtn(&w[row * k], k);
      quantize_row_rtn(&w[row * k], k, channel_scales[row], &codes[row * (k / 2)], &scales[row * (k / kGroup)],
                       &zeros[row * (k / kGroup)]);
    }
    expect_same_bits(channel_scales, file.get<float>(name, "channel_scale"), name + ".channel_scale");
    expect_same_bits(scales, file.get<uint8_t>(name, "group_scale"), name + ".group_scale");
    expect_same_bits(zeros, file.get<uint8_t>(name, "group_zero"), name + ".group_zero");
    expect_same_bits(codes, file.get<uint8_t>(name, "qweight"), name + ".qweight");
  }
}

TEST(Contract, QuantizeAct) {
  const CaseFile file("quantize_act");
  const auto backend = ref_backend();
  for (const std::string& name : file.names()) {
    const std::vector<float> x = file.get<float>(name, "x");
    const std::vector<int32_t> perm = file.get<int32_t>(name, "act_perm");
    const int m = file.dim(name, "x", 0), k = static_cast<int>(perm.size());
    const ActFormat format{.k_in = file.dim(name, "x", 1),
                           .k = k,
                           .num_int8_groups = file.integer(name, "n8"),
                           .bits2 = file.integer(name, "bits2"),
                           .rotate = file.integer(name, "rotate") != 0,
                           .clip1 = file.number(name, "clip1"),
                           .clip2 = file.number(name, "clip2")};
    EXPECT_EQ(max_region1_factor(format), file.integer(name, "rmax")) << name;
    Acts acts(m, k);
    std::vector<uint32_t> errors(static_cast<size_t>(m), 0);
    backend->quantize_act(
        {.m = m, .format = format},
        {.x = x.data(), .perm = perm.data(), .out = acts.view(), .row_errors = errors.data(), .error_tag = 1});
    EXPECT_EQ(errors, std::vector<uint32_t>(static_cast<size_t>(m), 0)) << name;
    std::vector<int8_t> want = file.get<int8_t>(name, "codes");
    const std::vector<uint8_t> multipliers = file.get<uint8_t>(name, "multipliers");
    for (size_t i = 0; i < want.size(); ++i) want[i] = static_cast<int8_t>(want[i] * multipliers[i / kGroup]);
    expect_same_bits(acts.multipliers, multipliers, name + ".multipliers");
    expect_same_bits(acts.values, want, name + ".values");
    expect_same_bits(acts.r, file.get<int32_t>(name, "r"), name + ".r");
    expect_same_bits(acts.sx, file.get<float>(name, "sx"), name + ".sx");
    expect_same_bits(acts.osum, file.get<uint32_t>(name, "osum"), name + ".osum");
    expect_same_bits(std::vector<int32_t>(acts.sums.begin(), acts.sums.end()), file.get<int32_t>(name, "asum"),
                     name + ".asum");
  }
}

// The activations of a linear case, as the reference takes them.
Acts load_acts(const CaseFile& file, const std::string& name) {
  const int m = file.dim(name, "codes", 0), k = file.dim(name, "codes", 1);
  Acts acts(m, k);
  acts.values = file.get<int8_t>(name, "codes");
  acts.multipliers = file.get<uint8_t>(name, "multipliers");
  for (size_t i = 0; i < acts.values.size(); ++i)
    acts.values[i] = static_cast<int8_t>(acts.values[i] * acts.multipliers[i / kGroup]);
  acts.r = file.get<int32_t>(name, "r");
  acts.sx = file.get<float>(name, "sx");
  acts.osum = file.get<uint32_t>(name, "osum");
  return acts;
}

TEST(Contract, LinearW4ax) {
  const CaseFile file("linear_w4ax");
  const auto backend = ref_backend();
  for (const std::string& name : file.names()) {
    Acts acts = load_acts(file, name);
    const int m = file.dim(name, "codes", 0), k = file.dim(name, "codes", 1), n = file.dim(name, "qweight", 0);
    const std::vector<uint8_t> codes = file.get<uint8_t>(name, "qweight"),
                               scales = file.get<uint8_t>(name, "group_scale"),
                               zeros = file.get<uint8_t>(name, "group_zero");
    const std::vector<float> channel_scales = file.get<float>(name, "channel_scale");
    const std::vector<float> bias = file.has(name, "bias") ? to_f32(file.view(name, "bias")) : std::vector<float>{};
    const PackedWeights packed =
        backend->pack_w4ax({n, k, codes.data(), scales.data(), zeros.data(), channel_scales.data()});
    std::vector<float> y(static_cast<size_t>(m) * n);
    std::vector<uint16_t> y16(y.size());
    GemmProblem problem{.m = m, .n = n, .k = k, .num_int8_groups = file.integer(name, "n8"), .output = GemmOutput::f32};
    GemmArgs args{.a = acts.view(),
                  .b = packed,
                  .channel_scales = channel_scales.data(),
                  .bias = bias.empty() ? nullptr : bias.data(),
                  .d = y.data()};
    backend->gemm_w4ax(problem, args);
    problem.output = GemmOutput::bf16;
    args.d = y16.data();
    backend->gemm_w4ax(problem, args);
    expect_same_bits(y, file.get<float>(name, "y"), name + ".y");
    expect_same_bits(y16, file.get<uint16_t>(name, "y_bf16"), name + ".y_bf16");
    backend->free(packed.data);
  }
}

TEST(Contract, LinearW8a8) {
  const CaseFile file("linear_w8a8");
  const auto backend = ref_backend();
  for (const std::string& name : file.names()) {
    Acts acts = load_acts(file, name);
    const int m = file.dim(name, "codes", 0), k = file.dim(name, "codes", 1), n = file.dim(name, "weight", 0);
    const std::vector<int8_t> weight = file.get<int8_t>(name, "weight");
    const std::vector<float> channel_scales = file.get<float>(name, "channel_scale");
    const PackedWeights packed = backend->pack_w8({n, k, weight.data(), channel_scales.data()});
    std::vector<float> y(static_cast<size_t>(m) * n);
    backend->gemm_w8a8({.m = m, .n = n, .k = k, .output = GemmOutput::f32},
                       {.a = acts.view(), .b = packed, .channel_scales = channel_scales.data(), .d = y.data()});
    expect_same_bits(y, file.get<float>(name, "y"), name + ".y");
    backend->free(packed.data);
  }
}

}  // namespace
}  // namespace comet::contract
