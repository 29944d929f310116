// SPDX-License-Identifier: Apache-2.0
// The Hopper GEMMs against kernels/ref, bit for bit, over every tile and both ways of dealing tiles.
#include "kernels/cuda/gemm_sm90.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <thread>

#include "bench/gemm/device_array.h"
#include "kernels/backend.h"
#include "kernels/cuda/layouts_sm90.h"
#include "kernels/ref/ops_ref.h"

namespace comet::cuda {
namespace {

bool has_hopper() {
  int count = 0, major = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return false;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  return major == 9;
}

int num_sms() {
  int n = 0;
  COMET_CUDA_CHECK(cudaDeviceGetAttribute(&n, cudaDevAttrMultiProcessorCount, 0));
  return n;
}

// extreme: every product of the same sign at its largest, r at rmax.
struct Case {
  int m, n, k, n8, bits2;
  bool bias, extreme;
  GemmOutput output;
};

struct Sample {
  GemmProblem problem;
  bool w8;
  std::vector<uint8_t> codes, group_scales, group_zeros, packed_ref;
  std::vector<int8_t> codes8, values, tiles;
  std::vector<float> channel_scales, bias, scales;
  std::vector<int32_t> factors;
  std::vector<uint32_t> sums;
  std::vector<float> d0;      // what d holds before (add_f32)
  std::vector<uint8_t> want;  // d as ref leaves it
};

void make_weights(const Case& c, Sample& s, std::mt19937& rng) {
  const int groups = c.k / kGroup;
  s.codes.resize(static_cast<size_t>(c.n) * c.k / 2);
  s.group_scales.resize(static_cast<size_t>(c.n) * groups);
  s.group_zeros.resize(s.group_scales.size());
  for (auto& b : s.codes) b = static_cast<uint8_t>(c.extreme ? 0 : rng());
  for (size_t i = 0; i < s.group_scales.size(); ++i) {
    const int s1 = c.extreme ? 16 : 1 + static_cast<int>(rng() % 16);
    const int low = min_group_zero(s1), high = max_group_zero(s1);
    s.group_scales[i] = static_cast<uint8_t>(s1);
    s.group_zeros[i] = static_cast<uint8_t>(low + static_cast<int>(rng() % (high - low + 1)));
  }
  s.packed_ref = s.codes;
  for (size_t i = 0; i < s.group_scales.size(); ++i)
    s.packed_ref.push_back(pack_group_params(s.group_scales[i], s.group_zeros[i]));
  s.codes8.resize(static_cast<size_t>(c.n) * c.k);
  for (auto& v : s.codes8) v = static_cast<int8_t>(c.extreme ? -127 : static_cast<int>(rng() % 255) - 127);
}

void make_acts(const Case& c, Sample& s, std::mt19937& rng) {
  const ActFormat format{c.k, c.k, c.n8, c.bits2, false, 1.0f, 1.0f};
  const int rmax = max_region1_factor(format), groups = c.k / kGroup;
  s.values.resize(static_cast<size_t>(c.m) * c.k);
  s.tiles.assign(static_cast<size_t>(padded_tokens(c.m)) * c.k, int8_t{99});  // padding tokens hold anything
  s.factors.assign(padded_tokens(c.m), 12345);
  s.scales.assign(padded_tokens(c.m), 3e38f);
  s.sums.assign(padded_tokens(c.m), 777u);
  std::uniform_real_distribution<float> scale(1e-4f, 1e-1f);
  for (int t = 0; t < c.m; ++t) {
    s.factors[t] = c.n8 == 0 ? 1 : (c.extreme ? rmax : 1 + static_cast<int>(rng() % std::min(rmax, 400)));
    s.scales[t] = scale(rng);
    uint32_t sum = 0;
    for (int g = 0; g < groups; ++g) {
      const bool region1 = g < c.n8;
      const int multiplier = !region1 && c.bits2 == 4 ? (c.extreme ? 17 : 1 + static_cast<int>(rng() % 17)) : 1;
      const int limit = !region1 && c.bits2 == 4 ? 7 : 127;
      for (int i = 0; i < kGroup; ++i) {
        const int code = c.extreme ? limit : static_cast<int>(rng() % (2 * limit + 1)) - limit;
        const int value = code * multiplier, k = g * kGroup + i;
        s.values[static_cast<size_t>(t) * c.k + k] = static_cast<int8_t>(value);
        s.tiles[activation_offset_sm90(c.m, t, k)] = static_cast<int8_t>(value);
        sum += static_cast<uint32_t>(value * (region1 ? s.factors[t] : 1));
      }
    }
    s.sums[t] = sum;
  }
}

Sample make_sample(const Case& c, bool w8) {
  std::mt19937 rng(static_cast<uint32_t>(c.m * 31 + c.n * 7 + c.k + c.n8));
  Sample s;
  s.problem = {c.m, c.n, c.k, c.n8, c.output};
  s.w8 = w8;
  make_weights(c, s, rng);
  make_acts(c, s, rng);
  std::uniform_real_distribution<float> scale(1e-4f, 1e-2f), other(-3.0f, 3.0f);
  s.channel_scales.resize(c.n);
  for (auto& v : s.channel_scales) v = scale(rng);
  if (c.bias) s.bias.resize(c.n);
  for (auto& v : s.bias) v = other(rng);
  const size_t outputs = static_cast<size_t>(c.m) * c.n;
  s.d0.resize(outputs);
  for (auto& v : s.d0) v = other(rng);
  const size_t bytes = c.output == GemmOutput::bf16 ? 2 : 4;
  s.want.resize(outputs * bytes);
  if (c.output != GemmOutput::bf16) memcpy(s.want.data(), s.d0.data(), s.want.size());

  const int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  std::vector<std::thread> pool;
  for (int i = 0; i < threads; ++i)
    pool.emplace_back([&, i] {
      const int first = c.m * i / threads, last = c.m * (i + 1) / threads;
      if (first == last) return;
      GemmProblem p = s.problem;
      p.m = last - first;
      GemmArgs args;
      args.a.values = s.values.data() + static_cast<size_t>(first) * c.k;
      args.a.region1_factors = s.factors.data() + first;
      args.a.scales = s.scales.data() + first;
      args.a.sums = s.sums.data() + first;
      args.b.data = w8 ? static_cast<void*>(s.codes8.data()) : s.packed_ref.data();
      args.channel_scales = s.channel_scales.data();
      args.bias = c.bias ? s.bias.data() : nullptr;
      args.d = s.want.data() + static_cast<size_t>(first) * c.n * bytes;
      w8 ? gemm_w8a8_ref(p, args) : gemm_w4ax_ref(p, args);
    });
  for (auto& t : pool) t.join();
  return s;
}

// A sample on the device, to be run with any plan.
class DeviceSample {
 public:
  explicit DeviceSample(const Sample& s)
      : s_(s),
        values_(s.tiles),
        factors_(s.factors),
        scales_(s.scales),
        sums_(s.sums),
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
    args.a.layout = ActLayout::tiles_sm90;
    args.a.values = values_.data();
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
  const Sample& s_;
  DeviceArray<int8_t> values_;
  DeviceArray<int32_t> factors_;
  DeviceArray<float> scales_;
  DeviceArray<uint32_t> sums_;
  DeviceArray<float> channel_scales_, bias_;
  DeviceArray<uint8_t> d_, packed_, partials_;
  DeviceArray<uint32_t> counters_;
};

std::vector<GemmPlan> plans_of(const GemmProblem& p, bool w8) {
  if (p.m <= kMaxGemvTokens) return {gemv_plan(p, num_sms()), gemv_plan(p, 2 * num_sms()), gemv_plan(p, 3)};
  std::vector<GemmPlan> plans;
  for (const TileChoice& tile : w8 ? w8a8_tiles_sm90() : w4ax_tiles_sm90())
    for (const bool split : {false, true})
      for (const int ctas : {num_sms() * tile.ctas_per_sm, 5}) plans.push_back(tile_plan(p, tile, ctas, split));
  for (const TileChoice& tile : w8 ? w8a8_tiles_sm90() : w4ax_tiles_sm90())
    for (const int cluster : {2, 3, 4, 8})
      if (cluster <= p.k / kGroup && cluster <= max_cluster(tile.tile_m))
        plans.push_back(cluster_plan(p, tile, cluster));
  return plans;
}

// First output that differs, in words of the output's size.
::testing::AssertionResult equal_bits(const std::vector<uint8_t>& got, const Sample& s) {
  if (got == s.want) return ::testing::AssertionSuccess();
  const size_t bytes = s.problem.output == GemmOutput::bf16 ? 2 : 4;
  size_t wrong = 0, first = got.size();
  for (size_t i = 0; i < got.size(); i += bytes)
    if (memcmp(&got[i], &s.want[i], bytes) != 0) {
      if (first == got.size()) first = i / bytes;
      ++wrong;
    }
  auto value = [&](const std::vector<uint8_t>& d) {
    if (bytes == 2) return to_float(reinterpret_cast<const bf16*>(d.data())[first]);
    return reinterpret_cast<const float*>(d.data())[first];
  };
  return ::testing::AssertionFailure() << wrong << " of " << got.size() / bytes << " differ, first at token "
                                       << first / s.problem.n << " row " << first % s.problem.n << ": got "
                                       << value(got) << ", ref " << value(s.want);
}

const Case kCases[] = {
    {1, 64, 128, 0, 8, false, false, GemmOutput::f32},         {1, 300, 512, 1, 4, true, false, GemmOutput::bf16},
    {2, 2117, 1152, 2, 4, false, false, GemmOutput::bf16},     {7, 4000, 1024, 8, 8, true, false, GemmOutput::add_f32},
    {8, 4096, 1536, 3, 4, false, true, GemmOutput::f32},       {9, 640, 2048, 16, 8, false, false, GemmOutput::bf16},
    {15, 1000, 1920, 0, 4, true, false, GemmOutput::add_f32},  {16, 8200, 1024, 5, 4, false, false, GemmOutput::bf16},
    {17, 128, 128, 0, 8, false, false, GemmOutput::f32},       {17, 200, 256, 1, 4, true, false, GemmOutput::bf16},
    {31, 1001, 640, 2, 8, false, false, GemmOutput::bf16},     {32, 256, 2048, 7, 4, true, false, GemmOutput::add_f32},
    {33, 332, 1152, 9, 4, false, false, GemmOutput::f32},      {64, 1030, 1024, 1, 8, true, false, GemmOutput::bf16},
    {100, 520, 896, 3, 4, true, false, GemmOutput::add_f32},   {128, 384, 1408, 11, 8, false, true, GemmOutput::bf16},
    {129, 136, 1024, 4, 4, false, false, GemmOutput::bf16},    {200, 777, 512, 2, 4, true, false, GemmOutput::f32},
    {255, 160, 1280, 5, 8, false, false, GemmOutput::add_f32}, {256, 264, 768, 0, 4, true, false, GemmOutput::bf16},
    {257, 520, 640, 1, 8, true, false, GemmOutput::bf16},      {300, 130, 384, 3, 4, false, true, GemmOutput::f32},
};

void run_cases(bool w8) {
  if (!has_hopper()) GTEST_SKIP() << "no Hopper GPU";
  const bool brief = std::getenv("COMET_TEST_BRIEF") != nullptr;  // under compute-sanitizer
  int index = 0;
  for (const Case& c : kCases) {
    if (w8 && c.n8 > 0) continue;
    if (brief && index++ % 3 != 0) continue;
    SCOPED_TRACE(
        fmt::format("m {} n {} k {} n8 {} bits2 {}{}", c.m, c.n, c.k, c.n8, c.bits2, c.extreme ? " extreme" : ""));
    const Sample s = make_sample(c, w8);
    DeviceSample device(s);
    for (const GemmPlan& plan : plans_of(s.problem, w8)) {
      device.poison();
      device.launch(plan);
      EXPECT_TRUE(equal_bits(device.result(), s)) << to_string(plan);
    }
  }
}

TEST(GemmW4axSm90, EqualsReference) { run_cases(false); }
TEST(GemmW8a8Sm90, EqualsReference) { run_cases(true); }

TEST(GemmW4axSm90, ThousandRepeatsAreIdentical) {
  if (!has_hopper()) GTEST_SKIP() << "no Hopper GPU";
  if (std::getenv("COMET_TEST_BRIEF") != nullptr) GTEST_SKIP() << "brief run";
  const char* wanted = std::getenv("COMET_TEST_REPEATS");  // fewer where every barrier sleeps
  const int repeats = wanted != nullptr ? std::atoi(wanted) : 1000;
  ASSERT_GE(repeats, 50);
  for (const Case& c : {Case{16, 8192, 4096, 5, 4, false, false, GemmOutput::bf16},
                        Case{8, 4096, 4096, 5, 4, false, false, GemmOutput::bf16},
                        Case{16, 2048, 4096, 5, 4, false, false, GemmOutput::bf16},
                        Case{40, 2048, 4096, 3, 4, false, false, GemmOutput::bf16},
                        Case{250, 640, 4096, 3, 4, false, false, GemmOutput::bf16},
                        Case{400, 2304, 2048, 3, 4, false, false, GemmOutput::bf16}}) {
    const Sample s = make_sample(c, false);
    DeviceSample device(s);
    for (const GemmPlan& plan : plans_of(s.problem, false)) {
      for (int i = 0; i < repeats; ++i) {
        if (i % 50 == 0) device.poison();
        device.launch(plan);
        if (i % 50 == 49) {
          ASSERT_TRUE(equal_bits(device.result(), s)) << to_string(plan) << " after " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace comet::cuda
