// SPDX-License-Identifier: Apache-2.0
// quantize_act_ax_sm90 against the reference, bit for bit: every source, layout, region split, and rows that are zero,
// tiny, huge or not finite.
#include "kernels/cuda/quantize_act_sm90.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "base/check.h"
#include "bench/gemm/device_array.h"
#include "kernels/cuda/layouts_sm90.h"
#include "kernels/ref/ops_ref.h"

namespace comet::cuda {
namespace {

struct Case {
  int m, k_in, k, n8, bits2;
  bool rotate, permute;
  ActSource source;
};

struct Output {
  std::vector<int8_t> values;
  std::vector<uint8_t> multipliers;
  std::vector<int16_t> group_sums;
  std::vector<int32_t> factors;
  std::vector<float> scales;
  std::vector<uint32_t> sums, errors;
};

bool has_hopper() {
  int count = 0, major = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return false;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  return major == 9;
}

std::vector<int32_t> make_permutation(const Case& c, std::mt19937& rng) {
  std::vector<int32_t> perm(c.k, -1);
  std::iota(perm.begin(), perm.begin() + c.k_in, 0);
  std::shuffle(perm.begin(), perm.begin() + c.k_in, rng);
  return perm;
}

// Rows of every magnitude; row 3 is zero, row 5 holds an infinity, row 6 a NaN.
std::vector<float> make_rows(const Case& c, int width, std::mt19937& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(c.m) * width);
  for (int t = 0; t < c.m; ++t) {
    const float magnitude = std::ldexp(1.0f, static_cast<int>(rng() % 60) - 30) * (t == 7 ? 0x1p-110f : 1.0f);
    for (int i = 0; i < width; ++i) {
      float v = normal(rng) * magnitude * (i % 61 == 0 ? 40.0f : 1.0f);
      if (t == 3) v = 0.0f;
      x[static_cast<size_t>(t) * width + i] = v;
    }
    if (t == 5) x[static_cast<size_t>(t) * width + width / 2] = std::numeric_limits<float>::infinity();
    if (t == 6) x[static_cast<size_t>(t) * width + 1] = std::numeric_limits<float>::quiet_NaN();
  }
  return x;
}

void check_case(const Case& c) {
  std::mt19937 rng(static_cast<uint32_t>(c.m + c.k * 3 + c.n8));
  const bool is_half = c.source == ActSource::bf16 || c.source == ActSource::silu_mul;
  const int width = c.source == ActSource::silu_mul ? 2 * c.k_in : c.k_in, groups = c.k / kGroup;
  const std::vector<float> x = make_rows(c, width, rng);
  std::vector<bf16> half(x.size());
  for (size_t i = 0; i < x.size(); ++i) half[i] = to_bf16(x[i]);
  const std::vector<int32_t> perm = make_permutation(c, rng);
  std::vector<float> gain(c.k_in);
  for (auto& g : gain) g = 0.5f + static_cast<float>(rng() % 1000) * 1e-3f;
  std::vector<int32_t> rows(c.m);
  for (int t = 0; t < c.m; ++t) rows[t] = c.m - 1 - t;
  const QuantizeActProblem problem{c.m, {c.k_in, c.k, c.n8, c.bits2, c.rotate, 0.9f, 0.95f}, c.source};

  Output want{std::vector<int8_t>(static_cast<size_t>(c.m) * c.k),
              std::vector<uint8_t>(c.m * groups),
              std::vector<int16_t>(c.m * groups),
              std::vector<int32_t>(c.m),
              std::vector<float>(c.m),
              std::vector<uint32_t>(c.m),
              std::vector<uint32_t>(c.m)};
  QuantizeActArgs args;
  args.x = is_half ? static_cast<const void*>(half.data()) : x.data();
  args.row_ids = rows.data();
  args.gain = gain.data();
  args.eps = 1e-5f;
  args.perm = c.permute ? perm.data() : nullptr;
  args.out = {ActLayout::rows,     want.values.data(), want.multipliers.data(), want.group_sums.data(),
              want.factors.data(), want.scales.data(), want.sums.data()};
  args.row_errors = want.errors.data();
  args.error_tag = 77;
  quantize_act_ref(problem, args);

  const int padded = padded_tokens(c.m);
  const DeviceArray<float> device_x(x), device_gain(gain);
  const DeviceArray<bf16> device_half(half);
  const DeviceArray<int32_t> device_perm(perm), device_rows(rows);
  DeviceArray<int8_t> values(static_cast<size_t>(padded) * c.k);
  DeviceArray<uint8_t> multipliers(c.m * groups);
  DeviceArray<int16_t> group_sums(c.m * groups);
  DeviceArray<int32_t> factors(padded);
  DeviceArray<float> scales(padded);
  DeviceArray<uint32_t> sums(padded), errors(c.m);
  values.fill_bytes(0x55);
  scales.fill_bytes(0x55);
  args.x = is_half ? static_cast<const void*>(device_half.data()) : device_x.data();
  args.row_ids = device_rows.data();
  args.gain = device_gain.data();
  args.perm = c.permute ? device_perm.data() : nullptr;
  args.out = {ActLayout::tiles_sm90, values.data(), multipliers.data(), group_sums.data(),
              factors.data(),        scales.data(), sums.data()};
  args.row_errors = errors.data();
  quantize_act_ax_sm90(problem, args, nullptr);
  COMET_CUDA_CHECK(cudaDeviceSynchronize());

  const auto tiles = values.to_host();
  size_t wrong = 0;
  for (int t = 0; t < padded; ++t)
    for (int k = 0; k < c.k; ++k)
      wrong +=
          tiles[activation_offset_sm90(c.m, t, k)] != (t < c.m ? want.values[static_cast<size_t>(t) * c.k + k] : 0);
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(multipliers.to_host(), want.multipliers);
  EXPECT_EQ(group_sums.to_host(), want.group_sums);
  auto head = [&](auto v) {
    v.resize(c.m);
    return v;
  };
  EXPECT_EQ(head(factors.to_host()), want.factors);
  EXPECT_EQ(head(scales.to_host()), want.scales);
  EXPECT_EQ(head(sums.to_host()), want.sums);
  EXPECT_EQ(errors.to_host(), want.errors);
}

TEST(QuantizeActAxSm90, EqualsReference) {
  if (!has_hopper()) GTEST_SKIP() << "no Hopper GPU";
  const Case cases[] = {
      {1, 128, 128, 0, 8, false, false, ActSource::f32},
      {9, 1000, 1024, 2, 4, true, true, ActSource::f32},
      {17, 4096, 4096, 5, 4, true, true, ActSource::rms_norm},
      {8, 384, 384, 3, 8, false, true, ActSource::bf16},
      {40, 1500, 1536, 0, 4, true, false, ActSource::silu_mul},
      {33, 2048, 2048, 1, 8, true, true, ActSource::rms_norm},
      {12, 28672, 28672, 30, 4, true, false, ActSource::silu_mul},
      {257, 640, 640, 1, 4, false, true, ActSource::bf16},
      {16, 8192, 8192, 8, 8, false, true, ActSource::rms_norm},
      {25, 700, 768, 6, 8, false, true, ActSource::silu_mul},
      {19, 1496, 1536, 7, 4, true, false, ActSource::silu_mul},
      {30, 1000, 1152, 9, 4, true, false, ActSource::bf16},
      {10, 20480, 20480, 70, 8, true, false, ActSource::bf16},
      {700, 4096, 4224, 3, 4, true, false, ActSource::f32},  // from here on more tokens than resident CTAs
      {900, 8192, 8192, 7, 4, true, true, ActSource::rms_norm},
      {1100, 2560, 2560, 20, 8, false, true, ActSource::f32},
      {301, 16520, 16640, 1, 4, true, false, ActSource::silu_mul},
      {140, 40960, 40960, 1, 4, true, false, ActSource::bf16},  // the general kernel
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(fmt::format("m {} k_in {} k {} n8 {} bits2 {} rotate {} permute {} source {}", c.m, c.k_in, c.k, c.n8,
                             c.bits2, c.rotate, c.permute, static_cast<int>(c.source)));
    check_case(c);
  }
}

}  // namespace
}  // namespace comet::cuda
