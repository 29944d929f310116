// SPDX-License-Identifier: Apache-2.0
#include "kernels/check_problem.h"
#include "kernels/samples.h"

namespace comet {
namespace {

class GemmInt : public BackendTest {
 protected:
  enum class Scheme { w4ax, w8a8 };

  // The output bytes of one backend; add_f32 starts from the same values everywhere.
  std::vector<uint8_t> run(Backend& backend, Scheme scheme, const GemmProblem& p, const ActsSample& a,
                           const WeightsSample& w, bool has_bias) {
    const DeviceActs acts = upload(backend, a);
    const PackedWeights packed = scheme == Scheme::w4ax ? backend.pack_w4ax(w.w4ax()) : backend.pack_w8(w.w8());
    const DeviceBuffer weights(backend, packed), scales = comet::upload(backend, w.channel_scales),
                                                 bias = comet::upload(backend, w.bias);
    const size_t count = static_cast<size_t>(p.m) * static_cast<size_t>(p.n);
    std::vector<float> start(count);
    for (size_t i = 0; i < count; ++i) start[i] = static_cast<float>(i % 17) - 8.0f;
    const DeviceBuffer d = comet::upload(backend, start);
    const GemmArgs args{acts.acts, packed, scales.as<float>(), has_bias ? bias.as<float>() : nullptr, d.data()};
    scheme == Scheme::w4ax ? backend.gemm_w4ax(p, args) : backend.gemm_w8a8(p, args);
    return download<uint8_t>(backend, d.data(), count * sizeof(float));
  }

  void check(const GemmProblem& p, int bits2, Codes codes, bool has_bias = false) {
    const ActsSample a = make_acts(p.m, p.k, p.num_int8_groups, bits2, codes, 7);
    const WeightsSample w = make_weights(p.n, p.k, codes, 8);
    for (Scheme scheme : {Scheme::w4ax, Scheme::w8a8})
      EXPECT_TRUE(same_bits(run(*backend_, scheme, p, a, w, has_bias), run(*ref_, scheme, p, a, w, has_bias)))
          << (scheme == Scheme::w4ax ? "w4ax " : "w8a8 ") << to_string(p) << " bits2=" << bits2
          << (has_bias ? " bias" : "") << (codes == Codes::extreme ? " extreme" : "");
  }
};

TEST_P(GemmInt, EveryTokenCount) {
  for (int m = 1; m <= 33; ++m)
    check({.m = m, .n = 40, .k = 384, .num_int8_groups = 1, .output = GemmOutput::f32}, 4, Codes::random);
  check({.m = 257, .n = 33, .k = 256, .num_int8_groups = 1, .output = GemmOutput::f32}, 8, Codes::random);
}

TEST_P(GemmInt, EveryChannelCount) {
  for (int n : {1, 7, 8, 9, 15, 16, 17, 31, 32, 100})
    for (int m : {1, 5})
      check({.m = m, .n = n, .k = 256, .num_int8_groups = 0, .output = GemmOutput::bf16}, 8, Codes::random, true);
}

TEST_P(GemmInt, Regions) {
  for (int n8 : {0, 1, 3, 6, 7})  // of 7 groups: none, some, all but one, all
    for (int bits2 : {4, 8})
      for (Codes codes : {Codes::random, Codes::extreme})
        for (int m : {1, 3, 13})
          check({.m = m, .n = 20, .k = 896, .num_int8_groups = n8, .output = GemmOutput::f32}, bits2, codes);
}

TEST_P(GemmInt, Outputs) {
  for (GemmOutput output : {GemmOutput::bf16, GemmOutput::f32, GemmOutput::add_f32})
    for (bool has_bias : {false, true})
      for (int m : {1, 4, 9})
        check({.m = m, .n = 50, .k = 512, .num_int8_groups = 2, .output = output}, 4, Codes::random, has_bias);
}

// The sums reach the ends of int32: an accumulator that saturates anywhere shows.
TEST_P(GemmInt, LongRows) {
  for (int n8 : {0, 1, 511, 512})
    for (Codes codes : {Codes::random, Codes::extreme})
      for (int m : {1, 6})
        check({.m = m, .n = 18, .k = kMaxK, .num_int8_groups = n8, .output = GemmOutput::f32}, 8, codes);
}

// All products of one sign: the largest accumulator that the contract allows, and the smallest.
TEST_P(GemmInt, LargestAccumulator) {
  for (int sign : {1, -1})
    for (int n8 : {0, 4, 8}) {
      const int k = 1024, m = 5;
      WeightsSample w = make_weights(16, k, Codes::extreme, 1);
      std::fill(w.codes.begin(), w.codes.end(), uint8_t{0});  // w8 = (0 - 8) * 16 = -128
      std::fill(w.codes8.begin(), w.codes8.end(), int8_t{-127});
      ActsSample a = make_acts(m, k, n8, 8, Codes::extreme, 2);
      std::fill(a.values.begin(), a.values.end(), static_cast<int8_t>(127 * sign));
      std::fill(a.group_sums.begin(), a.group_sums.end(), static_cast<int16_t>(127 * 128 * sign));
      for (int t = 0; t < m; ++t) {
        const uint32_t group = static_cast<uint32_t>(127 * 128 * sign);
        a.sums[t] = static_cast<uint32_t>(a.region1_factors[t]) * group * static_cast<uint32_t>(n8) +
                    group * static_cast<uint32_t>(k / kGroup - n8);
      }
      const GemmProblem p{.m = m, .n = 16, .k = k, .num_int8_groups = n8, .output = GemmOutput::f32};
      for (Scheme scheme : {Scheme::w4ax, Scheme::w8a8})
        EXPECT_TRUE(same_bits(run(*backend_, scheme, p, a, w, false), run(*ref_, scheme, p, a, w, false)))
            << sign << " n8=" << n8;
    }
}

// bf16 results that are subnormal, infinite, or halfway between two codes.
TEST_P(GemmInt, RoundsToBf16AsStated) {
  const GemmProblem p{.m = 9, .n = 33, .k = 256, .num_int8_groups = 0, .output = GemmOutput::bf16};
  for (float scale : {1e-38f, 1e-36f, 1e33f, 1.0f}) {
    ActsSample a = make_acts(p.m, p.k, 0, 8, Codes::random, 3);
    WeightsSample w = make_weights(p.n, p.k, Codes::random, 4);
    for (size_t t = 0; t < a.scales.size(); ++t) a.scales[t] = scale * static_cast<float>(t + 1);
    for (size_t n = 0; n < w.channel_scales.size(); ++n)
      w.channel_scales[n] = scale == 1.0f ? 0x1p-9f : 0.01f * static_cast<float>(n + 1);
    for (Scheme scheme : {Scheme::w4ax, Scheme::w8a8})
      EXPECT_TRUE(same_bits(run(*backend_, scheme, p, a, w, false), run(*ref_, scheme, p, a, w, false)))
          << "scale " << scale;
  }
}

TEST_P(GemmInt, RefusesWhatDoesNotFit) {
  const ActsSample a = make_acts(1, 256, 0, 8, Codes::random, 1);
  const WeightsSample w = make_weights(16, 256, Codes::random, 1);
  EXPECT_THROW(run(*backend_, Scheme::w4ax, {.m = 1, .n = 16, .k = 384}, a, w, false), Error);
  EXPECT_THROW(run(*backend_, Scheme::w4ax, {.m = 1, .n = 17, .k = 256}, a, w, false), Error);
  EXPECT_THROW(run(*backend_, Scheme::w8a8, {.m = 1, .n = 16, .k = 256, .num_int8_groups = 3}, a, w, false), Error);
}

COMET_BACKEND_CASES(GemmInt);

}  // namespace
}  // namespace comet
