// SPDX-License-Identifier: Apache-2.0
// The Hopper GEMMs against kernels/ref, bit for bit, over every tile and both ways of dealing tiles.
#include "kernels/cuda/gemm_sm90.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "bench/gemm/device_array.h"
#include "kernels/backend.h"
#include "kernels/cuda/layouts_sm90.h"
#include "kernels_cuda/device.h"
#include "kernels_cuda/gemm_samples.h"

namespace comet::cuda {
namespace {

int num_sms() {
  int n = 0;
  COMET_CUDA_CHECK(cudaDeviceGetAttribute(&n, cudaDevAttrMultiProcessorCount, 0));
  return n;
}

// Per-token values where the kernel reads them: padding tokens hold anything.
template <typename T>
std::vector<T> padded(std::vector<T> values, const GemmProblem& p, T filler) {
  values.resize(static_cast<size_t>(padded_tokens(p.m)), filler);
  return values;
}

// A sample on the device, to be run with any plan.
class DeviceSample {
 public:
  explicit DeviceSample(const GemmSample& s)
      : s_(s),
        tiles_(values_sm90(s, ActLayout::tiles_sm90)),
        fragments_(values_sm90(s, ActLayout::fragments_sm90)),
        factors_(padded(s.factors, s.problem, 12345)),
        scales_(padded(s.scales, s.problem, 3e38f)),
        sums_(padded(s.sums, s.problem, 777u)),
        channel_scales_(s.channel_scales),
        bias_(s.bias),
        d_(s.want.size()),
        packed_(packed_weight_bytes(s.problem.n, s.problem.k, s.w8 ? kUnitBytesW8 : kUnitBytesW4)) {
    const int n = s.problem.n, k = s.problem.k;
    packed_.fill_bytes(0xee);
    if (s.w8) {
      const DeviceArray<int8_t> codes(s.codes8);
      pack_w8_sm90({n, k, codes.data(), nullptr}, packed_.data(), nullptr);
      COMET_CUDA_CHECK(cudaDeviceSynchronize());
    } else {
      const DeviceArray<uint8_t> codes(s.codes), scales(s.group_scales), zeros(s.group_zeros);
      pack_w4ax_sm90({n, k, codes.data(), scales.data(), zeros.data(), nullptr}, packed_.data(), nullptr);
      COMET_CUDA_CHECK(cudaDeviceSynchronize());
    }
  }

  void poison() {
    if (s_.problem.output == GemmOutput::add_f32)
      COMET_CUDA_CHECK(cudaMemcpy(d_.data(), s_.d0.data(), d_.bytes(), cudaMemcpyHostToDevice));
    else
      d_.fill_bytes(0xff);
  }

  void launch(const GemmPlan& plan) {
    if (partials_.bytes() < plan.partial_bytes()) partials_ = DeviceArray<uint8_t>(plan.partial_bytes());
    if (counters_.bytes() < plan.counter_bytes()) counters_ = DeviceArray<uint32_t>(plan.counter_bytes() / 4);
    GemmArgs args;
    args.a.layout = plan.act_layout();
    args.a.values = (plan.tile_m == 0 ? fragments_ : tiles_).data();
    args.a.region1_factors = factors_.data();
    args.a.scales = scales_.data();
    args.a.sums = sums_.data();
    args.b = {packed_.data(), packed_.bytes(), s_.problem.n, s_.problem.k};
    args.channel_scales = channel_scales_.data();
    args.bias = s_.bias.empty() ? nullptr : bias_.data();
    args.d = d_.data();
    const GemmWorkspace workspace{partials_.data(), counters_.data()};
    (s_.w8 ? gemm_w8a8_sm90 : gemm_w4ax_sm90)(s_.problem, args, plan, workspace, nullptr);
  }

  std::vector<uint8_t> result() {
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
    return d_.to_host();
  }

 private:
  const GemmSample& s_;
  DeviceArray<int8_t> tiles_, fragments_;
  DeviceArray<int32_t> factors_;
  DeviceArray<float> scales_;
  DeviceArray<uint32_t> sums_;
  DeviceArray<float> channel_scales_, bias_;
  DeviceArray<uint8_t> d_, packed_, partials_;
  DeviceArray<uint32_t> counters_;
};

std::vector<GemmPlan> plans_of(const GemmProblem& p, bool w8) {
  std::vector<GemmPlan> plans;
  if (p.m <= kMaxGemvTokens) {
    plans = {gemv_plan(p, num_sms(), 1), gemv_plan(p, num_sms(), 2), gemv_plan(p, 3, 1), gemv_plan(p, num_sms(), 1)};
    plans.back().is_spread = true;
  }
  for (const TileChoice& tile : w8 ? w8a8_tiles_sm90() : w4ax_tiles_sm90())
    for (const bool split : {false, true})
      if (tile.sides == 1)
        for (const int ctas : {num_sms() * tile.ctas_per_sm, 5}) plans.push_back(tile_plan(p, tile, ctas, split));
  for (const TileChoice& tile : w8 ? w8a8_tiles_sm90() : w4ax_tiles_sm90())
    for (const int cluster : {1, 2, 3, 4, 5, 6, 7, 8})
      if (cluster >= 3 - tile.sides && cluster * tile.sides <= p.k / kGroup &&
          cluster <= max_cluster(tile.tile_m, tile.sides, tile.rows))
        plans.push_back(cluster_plan(p, tile, cluster));
  for (const TileChoice& tile : w8 ? w8a8_tiles_sm90() : w4ax_tiles_sm90())
    for (const int ctas : {2, 4, 7, num_sms()})
      if (has_pair_tail(p, tile, ctas)) plans.push_back(pair_tail_plan(p, tile, ctas));
  return plans;
}

const GemmCase kCases[] = {
    {1, 64, 128, 0, 8, false, false, GemmOutput::f32},         {1, 300, 512, 1, 4, true, false, GemmOutput::bf16},
    {2, 2117, 1152, 2, 4, false, false, GemmOutput::bf16},     {7, 4000, 1024, 8, 8, true, false, GemmOutput::add_f32},
    {8, 4096, 1536, 3, 4, false, true, GemmOutput::f32},       {9, 640, 2048, 16, 8, false, false, GemmOutput::bf16},
    {15, 1000, 1920, 0, 4, true, false, GemmOutput::add_f32},  {16, 8200, 1024, 5, 4, false, false, GemmOutput::bf16},
    {6, 600, 14336, 40, 4, true, false, GemmOutput::bf16},     {12, 600, 8192, 40, 4, true, false, GemmOutput::bf16},
    {17, 128, 128, 0, 8, false, false, GemmOutput::f32},       {17, 200, 256, 1, 4, true, false, GemmOutput::bf16},
    {31, 1001, 640, 2, 8, false, false, GemmOutput::bf16},     {32, 256, 2048, 7, 4, true, false, GemmOutput::add_f32},
    {33, 332, 1152, 9, 4, false, false, GemmOutput::f32},      {64, 1030, 1024, 1, 8, true, false, GemmOutput::bf16},
    {65, 136, 512, 1, 4, true, false, GemmOutput::bf16},       {130, 136, 512, 2, 4, false, false, GemmOutput::bf16},
    {100, 520, 896, 3, 4, true, false, GemmOutput::add_f32},   {128, 384, 1408, 11, 8, false, true, GemmOutput::bf16},
    {129, 136, 1024, 4, 4, false, false, GemmOutput::bf16},    {200, 777, 512, 2, 4, true, false, GemmOutput::f32},
    {255, 160, 1280, 5, 8, false, false, GemmOutput::add_f32}, {256, 264, 768, 0, 4, true, false, GemmOutput::bf16},
    {257, 520, 640, 1, 8, true, false, GemmOutput::bf16},      {300, 130, 384, 3, 4, false, true, GemmOutput::f32},
};

void run_cases(bool w8) {
  if (!has_hopper()) GTEST_SKIP() << "no Hopper GPU";
  const bool brief = std::getenv("COMET_TEST_BRIEF") != nullptr;  // under compute-sanitizer
  const char* tokens = std::getenv("COMET_TEST_TOKENS");          // only problems of so many, and each plan said
  const char* plans = std::getenv("COMET_TEST_PLANS");            // only plans whose text has this in it
  int index = 0, num_run = 0;
  for (const GemmCase& c : kCases) {
    if (w8 && c.n8 > 0) continue;
    if (tokens != nullptr ? std::atoi(tokens) != c.m : brief && index++ % 3 != 0) continue;
    SCOPED_TRACE(
        fmt::format("m {} n {} k {} n8 {} bits2 {}{}", c.m, c.n, c.k, c.n8, c.bits2, c.extreme ? " extreme" : ""));
    const GemmSample s(c, w8);
    DeviceSample device(s);
    for (const GemmPlan& plan : plans_of(s.problem, w8)) {
      if (plans != nullptr && to_string(plan).find(plans) == std::string::npos) continue;
      ++num_run;
      if (tokens != nullptr) fmt::print(stderr, "{}\n", to_string(plan));
      device.poison();
      device.launch(plan);
      EXPECT_TRUE(equals_reference(device.result(), s)) << to_string(plan);
    }
  }
  if (num_run == 0) GTEST_SKIP() << "no problem has COMET_TEST_TOKENS tokens, or no plan COMET_TEST_PLANS";
}

TEST(GemmW4axSm90, EqualsReference) { run_cases(false); }
TEST(GemmW8a8Sm90, EqualsReference) { run_cases(true); }

TEST(GemmW4axSm90, ThousandRepeatsAreIdentical) {
  if (!has_hopper()) GTEST_SKIP() << "no Hopper GPU";
  if (std::getenv("COMET_TEST_BRIEF") != nullptr) GTEST_SKIP() << "brief run";
  const char* wanted = std::getenv("COMET_TEST_REPEATS");  // fewer where every barrier sleeps
  const int repeats = wanted != nullptr ? std::atoi(wanted) : 1000;
  ASSERT_GE(repeats, 50);
  for (const GemmCase& c : {GemmCase{16, 8192, 4096, 5, 4, false, false, GemmOutput::bf16},
                            GemmCase{8, 4096, 4096, 5, 4, false, false, GemmOutput::bf16},
                            GemmCase{16, 2048, 4096, 5, 4, false, false, GemmOutput::bf16},
                            GemmCase{40, 2048, 4096, 3, 4, false, false, GemmOutput::bf16},
                            GemmCase{250, 640, 4096, 3, 4, false, false, GemmOutput::bf16},
                            GemmCase{400, 2304, 2048, 3, 4, false, false, GemmOutput::bf16}}) {
    const GemmSample s(c);
    DeviceSample device(s);
    for (const GemmPlan& plan : plans_of(s.problem, false)) {
      for (int i = 0; i < repeats; ++i) {
        if (i % 50 == 0) device.poison();
        device.launch(plan);
        if (i % 50 == 49) {
          ASSERT_TRUE(equals_reference(device.result(), s)) << to_string(plan) << " after " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace comet::cuda
