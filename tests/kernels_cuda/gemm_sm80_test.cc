// SPDX-License-Identifier: Apache-2.0
// The Ampere GEMM against kernels/ref, bit for bit, over every tile and both ways of dealing steps; newer GPUs run its
// compute_80 PTX.
#include "kernels/cuda/gemm_sm80.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "bench/gemm/device_array.h"
#include "kernels/backend.h"
#include "kernels_cuda/device.h"
#include "kernels_cuda/gemm_samples.h"

namespace comet::cuda {
namespace {

DeviceSm80 this_device() {
  DeviceSm80 d;
  COMET_CUDA_CHECK(cudaDeviceGetAttribute(&d.num_sms, cudaDevAttrMultiProcessorCount, 0));
  COMET_CUDA_CHECK(cudaDeviceGetAttribute(&d.shared_bytes, cudaDevAttrMaxSharedMemoryPerMultiprocessor, 0));
  return d;
}

// A sample on the device, packed there; to be run with any plan.
class DeviceSample {
 public:
  explicit DeviceSample(const GemmSample& s)
      : s_(s),
        steps_(make_steps_sm80(s.problem.k, s.problem.num_int8_groups, s.bits2)),
        factors_(s.factors),
        scales_(s.scales),
        sums_(s.sums),
        channel_scales_(s.channel_scales),
        bias_(s.bias),
        d_(s.want.size()),
        weights_(packed_weight_bytes_sm80(s.problem.n, s.problem.k)),
        slabs_(packed_act_bytes_sm80(steps_, s.problem.m)),
        multipliers_(static_cast<size_t>(steps_.groups) * padded_tokens_sm80(s.problem.m)) {
    weights_.fill_bytes(0xee), slabs_.fill_bytes(0xee), multipliers_.fill_bytes(0xee);
    const DeviceArray<uint8_t> codes(s.codes), group_scales(s.group_scales), group_zeros(s.group_zeros);
    pack_w4ax_sm80({s.problem.n, s.problem.k, codes.data(), group_scales.data(), group_zeros.data(), nullptr},
                   weights_.data(), nullptr);
    const DeviceArray<int8_t> values(s.values);
    const DeviceArray<uint8_t> multipliers(s.multipliers);
    const DeviceArray<int16_t> group_sums(s.group_sums);
    QuantizedActs rows = acts();
    rows.layout = ActLayout::rows;
    rows.values = values.data(), rows.multipliers = multipliers.data(), rows.group_sums = group_sums.data();
    pack_acts_sm80(rows, s.problem.m, steps_, acts(), nullptr);
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
  }

  void poison() {
    if (s_.problem.output == GemmOutput::add_f32)
      COMET_CUDA_CHECK(cudaMemcpy(d_.data(), s_.d0.data(), d_.bytes(), cudaMemcpyHostToDevice));
    else
      d_.fill_bytes(0xff);
  }

  void launch(const GemmPlanSm80& plan) {
    if (partials_.bytes() < plan.partial_bytes()) partials_ = DeviceArray<uint8_t>(plan.partial_bytes());
    if (counters_.bytes() < plan.counter_bytes()) counters_ = DeviceArray<uint32_t>(plan.counter_bytes() / 4);
    GemmArgs args;
    args.a = acts();
    args.b = {weights_.data(), weights_.bytes(), s_.problem.n, s_.problem.k};
    args.channel_scales = channel_scales_.data();
    args.bias = s_.bias.empty() ? nullptr : bias_.data();
    args.d = d_.data();
    gemm_w4ax_sm80(s_.problem, args, plan, {partials_.data(), counters_.data()}, nullptr);
  }

  std::vector<uint8_t> result() {
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
    return d_.to_host();
  }

 private:
  QuantizedActs acts() const {
    QuantizedActs a;
    a.layout = ActLayout::packed_sm80;
    a.values = slabs_.data(), a.multipliers = multipliers_.data();
    a.region1_factors = factors_.data(), a.scales = scales_.data(), a.sums = sums_.data();
    return a;
  }

  const GemmSample& s_;
  StepsSm80 steps_;
  DeviceArray<int32_t> factors_;
  DeviceArray<float> scales_;
  DeviceArray<uint32_t> sums_;
  DeviceArray<float> channel_scales_, bias_;
  DeviceArray<uint8_t> d_, weights_;
  DeviceArray<int8_t> slabs_;
  DeviceArray<uint8_t> multipliers_, partials_;
  DeviceArray<uint32_t> counters_;
};

// The chosen plan first.
std::vector<GemmPlanSm80> plans_of(const GemmSample& s) {
  const DeviceSm80 device = this_device();
  std::vector<GemmPlanSm80> plans = {plan_gemm_w4ax_sm80(s.problem, s.bits2, device)};
  for (const TileChoiceSm80& tile : w4ax_tiles_sm80())
    for (const bool split : {false, true})
      for (const int ctas : {device.num_sms * tile.ctas_per_sm, 5})
        plans.push_back(tile_plan_sm80(s.problem, s.bits2, tile.tile_m, ctas, split));
  return plans;
}

const GemmCase kCases[] = {
    {1, 64, 128, 0, 8, false, false, GemmOutput::f32},
    {1, 300, 512, 1, 4, true, false, GemmOutput::bf16},
    {2, 2117, 1152, 2, 4, false, false, GemmOutput::bf16},
    {7, 4000, 1024, 8, 8, true, false, GemmOutput::add_f32},
    {8, 4096, 1536, 3, 4, false, true, GemmOutput::f32},
    {9, 640, 2048, 16, 8, false, false, GemmOutput::bf16},
    {15, 1000, 1920, 0, 4, true, false, GemmOutput::add_f32},
    {16, 8200, 1024, 5, 4, false, false, GemmOutput::bf16},
    {17, 128, 128, 0, 8, false, false, GemmOutput::f32},
    {17, 200, 256, 1, 4, true, false, GemmOutput::bf16},
    {31, 1001, 640, 2, 8, false, false, GemmOutput::bf16},
    {32, 256, 2048, 7, 4, true, false, GemmOutput::add_f32},
    {33, 332, 1152, 9, 4, false, false, GemmOutput::f32},
    {64, 1030, 1024, 1, 8, true, false, GemmOutput::bf16},
    {100, 520, 896, 3, 4, true, false, GemmOutput::add_f32},
    {128, 384, 1408, 11, 8, false, true, GemmOutput::bf16},
    {129, 136, 1024, 4, 4, false, false, GemmOutput::bf16},
    {200, 777, 512, 2, 4, true, false, GemmOutput::f32},
    {255, 160, 1280, 5, 8, false, false, GemmOutput::add_f32},
    {256, 264, 768, 0, 4, true, false, GemmOutput::bf16},
    {257, 520, 640, 1, 8, true, false, GemmOutput::bf16},
    {300, 130, 384, 3, 4, false, true, GemmOutput::f32},
    // More than one block of constants; the second also begins in the second.
    {40, 131, 4224, 0, 4, true, true, GemmOutput::f32},
    {5, 150, 8448, 34, 4, false, false, GemmOutput::bf16},
};

TEST(GemmW4axSm80, EqualsReference) {
  if (!has_ampere_or_newer()) GTEST_SKIP() << "no GPU of compute capability 8.0 or newer";
  const bool brief = std::getenv("COMET_TEST_BRIEF") != nullptr;  // under compute-sanitizer
  int index = 0;
  for (const GemmCase& c : kCases) {
    if (brief && index++ % 4 != 1) continue;
    SCOPED_TRACE(
        fmt::format("m {} n {} k {} n8 {} bits2 {}{}", c.m, c.n, c.k, c.n8, c.bits2, c.extreme ? " extreme" : ""));
    const GemmSample s(c);
    DeviceSample device(s);
    for (const GemmPlanSm80& plan : plans_of(s)) {
      device.poison();
      device.launch(plan);
      EXPECT_TRUE(equals_reference(device.result(), s)) << to_string(plan);
    }
  }
}

TEST(GemmW4axSm80, ThousandRepeatsAreIdentical) {
  if (!has_ampere_or_newer()) GTEST_SKIP() << "no GPU of compute capability 8.0 or newer";
  if (std::getenv("COMET_TEST_BRIEF") != nullptr) GTEST_SKIP() << "brief run";
  for (const GemmCase& c : {GemmCase{16, 2048, 4096, 5, 4, false, false, GemmOutput::bf16},
                            GemmCase{130, 640, 2048, 3, 4, false, false, GemmOutput::bf16}}) {
    const GemmSample s(c);
    DeviceSample device(s);
    for (const GemmPlanSm80& plan : plans_of(s)) {
      for (int i = 0; i < 1000; ++i) {
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
