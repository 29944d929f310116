// SPDX-License-Identifier: Apache-2.0
// quantize_act_ax_sm80 against the reference, bit for bit and byte for byte in the order that gemm_w4ax_sm80 reads:
// every source, kernel, region split, and rows that are zero, tiny, huge or not finite.
#include "kernels/cuda/quantize_act_sm80.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "bench/gemm/device_array.h"
#include "kernels/cuda/gemm_sm80.h"
#include "kernels_cuda/device.h"
#include "kernels_cuda/quantize_gates.h"
#include "kernels_cuda/quantize_samples.h"

namespace comet::cuda {
namespace {

constexpr int kPoison = 0x55;

// A sample on the device, its outputs with 64 bytes behind each that nobody may touch.
class DeviceSample {
 public:
  explicit DeviceSample(const QuantizeCase& c)
      : want_(c),
        packed_(pack_on_host_sm80(want_)),
        x_(want_.x),
        gain_(want_.gain),
        perm_(want_.perm),
        rows_(want_.rows),
        values_(packed_.values.size() + kBehind),
        multipliers_(packed_.multipliers.size() + kBehind),
        group_sums_(want_.group_sums.size() + kBehind),
        factors_(want_.factors.size() + kBehind),
        scales_(want_.scales.size() + kBehind),
        sums_(want_.sums.size() + kBehind),
        errors_(want_.errors.size()) {}

  const QuantizeActProblem& problem() const { return want_.problem; }
  bool is_permuted() const { return want_.shape.permute; }

  QuantizeActArgs args() {
    QuantizeActArgs args = want_.args_at(x_.data(), rows_.data(), gain_.data(), perm_.data());
    args.out = {ActLayout::packed_sm80, values_.data(), multipliers_.data(), group_sums_.data(),
                factors_.data(),        scales_.data(), sums_.data()};
    args.row_errors = errors_.data();
    return args;
  }

  void poison() {
    values_.fill_bytes(kPoison), multipliers_.fill_bytes(kPoison), group_sums_.fill_bytes(kPoison);
    factors_.fill_bytes(kPoison), scales_.fill_bytes(kPoison), sums_.fill_bytes(kPoison), errors_.fill_bytes(0);
  }

  void expect_all_equal() {
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
    expect_equal("values", values_.to_host(), packed_.values);
    expect_equal("multipliers", multipliers_.to_host(), packed_.multipliers);
    expect_equal("group_sums", group_sums_.to_host(), want_.group_sums);
    expect_equal("region1_factors", factors_.to_host(), want_.factors);
    expect_equal("scales", scales_.to_host(), want_.scales);
    expect_equal("sums", sums_.to_host(), want_.sums);
    EXPECT_EQ(errors_.to_host(), want_.errors);
  }

  // The reference's rows through the packer that the GEMM's own tests use.
  void expect_packer_agrees() {
    const DeviceArray<int8_t> values(want_.values);
    const DeviceArray<uint8_t> multipliers(want_.multipliers);
    const DeviceArray<int16_t> group_sums(want_.group_sums);
    QuantizedActs rows;
    rows.values = values.data(), rows.multipliers = multipliers.data(), rows.group_sums = group_sums.data();
    const ActFormat& f = want_.problem.format;
    poison();
    pack_acts_sm80(rows, want_.problem.m, make_steps_sm80(f.k, f.num_int8_groups, f.bits2), args().out, nullptr);
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
    expect_equal("packed values", values_.to_host(), packed_.values);
    expect_equal("packed multipliers", multipliers_.to_host(), packed_.multipliers);
  }

 private:
  static constexpr size_t kBehind = 64;

  template <typename T>
  static void expect_equal(const char* name, const std::vector<T>& got, const std::vector<T>& want) {
    T poison;
    std::memset(&poison, kPoison, sizeof(T));
    for (size_t i = 0; i < got.size(); ++i) {
      const T wanted = i < want.size() ? want[i] : poison;
      if (std::memcmp(&got[i], &wanted, sizeof(T)) == 0) continue;
      ADD_FAILURE() << name << "[" << i << "] of " << want.size() << " is " << +got[i] << ", expected " << +wanted;
      return;
    }
  }

  const QuantizeSample want_;
  const PackedActsSm80 packed_;
  DeviceArray<uint8_t> x_, gain_;
  DeviceArray<int32_t> perm_, rows_;
  DeviceArray<int8_t> values_;
  DeviceArray<uint8_t> multipliers_;
  DeviceArray<int16_t> group_sums_;
  DeviceArray<int32_t> factors_;
  DeviceArray<float> scales_;
  DeviceArray<uint32_t> sums_, errors_;
};

constexpr DeviceSm80 kA100{108, 164 * 1024}, kL40S{142, 100 * 1024}, kTiny{2, 16 * 1024};

// The plan of every device, of rows that are not aligned (the kernel for any row), with one row in shared memory, one
// and two groups a lane, and few CTAs, which take many tokens each.
std::vector<QuantizePlanSm80> plans_of(const QuantizeActProblem& p, bool is_permuted) {
  std::vector<QuantizePlanSm80> plans;
  for (const DeviceSm80& device : {kA100, kL40S, kTiny})
    for (const bool is_aligned : {true, false}) {
      QuantizePlanSm80 plan = plan_quantize_act_sm80(p, is_permuted, is_aligned, device);
      plans.push_back(plan);
      plan.ctas = 3;
      plans.push_back(plan);
      if (plan.stages == 2) {
        plan.stages = 1;
        plans.push_back(plan);
      }
      if (plan.rows == QuantizeRowsSm80::silu && plan.units == 1) {
        plan.units = 2, plan.threads = round_up(plan.threads, 64) / 2;
        plans.push_back(plan);
      }
    }
  return plans;
}

void check_case(const QuantizeCase& c, bool all_plans) {
  SCOPED_TRACE(to_string(c));
  DeviceSample sample(c);
  sample.poison();
  quantize_act_ax_sm80(sample.problem(), sample.args(), nullptr);
  sample.expect_all_equal();
  if (!all_plans) return;
  for (const QuantizePlanSm80& plan : plans_of(sample.problem(), sample.is_permuted())) {
    SCOPED_TRACE(to_string(plan));
    sample.poison();
    launch_quantize_act_ax_sm80(sample.problem(), sample.args(), plan, nullptr);
    sample.expect_all_equal();
    if (testing::Test::HasFailure()) return;
  }
  sample.expect_packer_agrees();
}

const QuantizeCase kCases[] = {
    {1, 128, 128, 0, 8, false, false, ActSource::f32},
    {9, 1000, 1024, 2, 4, true, true, ActSource::f32},
    {17, 4096, 4096, 5, 4, true, true, ActSource::rms_norm},
    {8, 384, 384, 3, 8, false, true, ActSource::bf16},
    {40, 1500, 1536, 0, 4, true, false, ActSource::silu_mul},  // pieces of 8 bytes
    {33, 2048, 2048, 1, 8, true, true, ActSource::rms_norm, DType::bf16},
    {12, 28672, 28672, 30, 4, true, false, ActSource::silu_mul},
    {257, 640, 640, 1, 4, false, true, ActSource::bf16},
    {16, 8192, 8192, 8, 8, false, true, ActSource::rms_norm},
    {25, 700, 768, 6, 8, false, true, ActSource::silu_mul},
    {19, 1496, 1536, 7, 4, true, false, ActSource::silu_mul},
    {30, 1000, 1152, 9, 4, true, false, ActSource::bf16},
    {9, 4480, 4480, 33, 4, true, true, ActSource::bf16},  // constants from the second block on
    {10, 20480, 20480, 70, 8, true, false, ActSource::bf16},
    {301, 4096, 4224, 3, 4, true, false, ActSource::f32},
    {90, 8192, 8192, 7, 4, true, true, ActSource::rms_norm, DType::f16},
    {300, 2560, 2560, 20, 8, false, true, ActSource::f32},
    {14, 14336, 14336, 0, 4, true, false, ActSource::silu_mul},
    {150, 14336, 14336, 2, 4, true, false, ActSource::silu_mul},
    {21, 4096, 4096, 2, 4, true, true, ActSource::bf16},
    {15, 8192, 8192, 0, 8, false, false, ActSource::rms_norm},
    {9, 16384, 16384, 11, 4, true, true, ActSource::rms_norm},
    {3, 53248, 53248, 9, 4, true, false, ActSource::silu_mul},
    {9, 2053, 2176, 3, 4, true, true, ActSource::rms_norm, DType::bf16},
    {40, 1021, 1024, 2, 4, true, false, ActSource::silu_mul},
    {4, 60001, 60032, 5, 4, true, true, ActSource::rms_norm, DType::f16},
};

TEST(QuantizeActAxSm80, EqualsReference) {
  if (!has_ampere_or_newer()) GTEST_SKIP() << "no GPU of compute capability 8.0 or newer";
  const bool brief = std::getenv("COMET_TEST_BRIEF") != nullptr;  // under compute-sanitizer
  for (const QuantizeCase& c : kCases)
    if (!brief || static_cast<int64_t>(c.m) * c.k <= 16 * 2048) check_case(c, true);
}

TEST(QuantizeActAxSm80, EveryNumberOfTokensUpTo300) {
  if (!has_ampere_or_newer()) GTEST_SKIP() << "no GPU of compute capability 8.0 or newer";
  const bool brief = std::getenv("COMET_TEST_BRIEF") != nullptr;
  for (int m = 1; m <= 300; m += brief ? 37 : 1)
    for (const ActSource source : {ActSource::f32, ActSource::bf16, ActSource::rms_norm, ActSource::silu_mul})
      check_case({m, 384, 384, 1, 4, true, m % 2 == 0 && source != ActSource::silu_mul, source}, false);
}

TEST(QuantizeActAxSm80, EveryNumberOf8BitGroups) {
  if (!has_ampere_or_newer()) GTEST_SKIP() << "no GPU of compute capability 8.0 or newer";
  const bool brief = std::getenv("COMET_TEST_BRIEF") != nullptr;
  for (int n8 = 0; n8 <= 9; ++n8)
    for (const int bits2 : {4, 8})
      for (const bool rotate : {false, true})
        for (const ActSource source : {ActSource::f32, ActSource::bf16, ActSource::rms_norm, ActSource::silu_mul})
          if (!brief || n8 % 4 == 1)
            check_case({11, 1088, 1152, n8, bits2, rotate, n8 % 2 == 0 && source != ActSource::silu_mul, source},
                       false);
}

TEST(QuantizeActAxSm80, ThousandRepeatsAreIdentical) {
  if (!has_ampere_or_newer()) GTEST_SKIP() << "no GPU of compute capability 8.0 or newer";
  if (std::getenv("COMET_TEST_BRIEF") != nullptr) GTEST_SKIP() << "brief run";
  for (const QuantizeCase& c : {QuantizeCase{200, 4096, 4096, 4, 4, true, true, ActSource::rms_norm},
                                QuantizeCase{200, 4096, 4096, 4, 4, true, true, ActSource::bf16},
                                QuantizeCase{200, 9216, 9216, 2, 4, true, false, ActSource::silu_mul}}) {
    SCOPED_TRACE(to_string(c));
    DeviceSample sample(c);
    QuantizePlanSm80 plan = plan_quantize_act_sm80(sample.problem(), c.permute, true, kA100);
    plan.ctas = 64;
    for (int i = 0; i < 1000; ++i) {
      if (i % 50 == 0) sample.poison();
      launch_quantize_act_ax_sm80(sample.problem(), sample.args(), plan, nullptr);
      if (i % 50 == 49) sample.expect_all_equal();
      ASSERT_FALSE(HasFailure()) << "after " << i;
    }
  }
}

TEST(QuantizeActAxSm80, EveryGate) {
  if (!has_ampere_or_newer()) GTEST_SKIP() << "no GPU of compute capability 8.0 or newer";
  const DeviceArray<int8_t> values(packed_act_bytes_sm80(make_steps_sm80(kGroup, 0, 8), kGates));
  const DeviceArray<uint8_t> multipliers(kGates);
  check_every_gate(quantize_act_ax_sm80, ActLayout::packed_sm80, values.data(), multipliers.data());
}

TEST(QuantizeActAxSm80, BadInputIsRefused) {
  QuantizeActProblem p{1, {128, 128, 0, 4, true, 1.0f, 1.0f}, ActSource::f32};
  QuantizeActArgs args;
  args.out.layout = ActLayout::rows;
  EXPECT_THROW(quantize_act_ax_sm80(p, args, nullptr), Error);
  args.out.layout = ActLayout::packed_sm80;
  EXPECT_THROW(quantize_act_ax_sm80(p, args, nullptr), Error);  // nothing to read or write
  p.format.bits2 = 5;
  EXPECT_THROW(quantize_act_ax_sm80(p, args, nullptr), Error);
}

}  // namespace
}  // namespace comet::cuda
