// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/ref/ops_ref.h"
#include "quant/fp32.h"

namespace comet {
namespace {

// The site's input row, before permutation.
std::vector<float> source_row(const QuantizeActProblem& problem, const QuantizeActArgs& args, int64_t row) {
  const int64_t k_in = problem.format.k_in;
  std::vector<float> x(static_cast<size_t>(k_in));
  switch (problem.source) {
    case ActSource::f32:
      for (int64_t i = 0; i < k_in; ++i) x[i] = load_float(args.x, DType::f32, row * k_in + i);
      break;
    case ActSource::bf16:
      for (int64_t i = 0; i < k_in; ++i) x[i] = load_float(args.x, DType::bf16, row * k_in + i);
      break;
    case ActSource::rms_norm: {
      const float* in = static_cast<const float*>(args.x) + row * k_in;
      const float inv = rms_inverse(sum_of_squares(in, static_cast<int>(k_in)), static_cast<int>(k_in), args.eps);
      for (int64_t i = 0; i < k_in; ++i) x[i] = (in[i] * inv) * load_float(args.gain, args.gain_dtype, i);
      break;
    }
    case ActSource::silu_mul:
      for (int64_t i = 0; i < k_in; ++i)
        x[i] = silu(load_float(args.x, DType::bf16, row * 2 * k_in + i)) *
               load_float(args.x, DType::bf16, row * 2 * k_in + k_in + i);
      break;
  }
  return x;
}

float amax_of(const float* x, int n) {
  float amax = 0.0f;
  for (int i = 0; i < n; ++i) amax = std::max(amax, std::fabs(x[i]));
  return amax;
}

// Codes of one group at 1 / step; returns their sum.
int encode_group(const float* x, float step, float limit, int8_t* codes) {
  const float inv = 1.0f / step;
  int sum = 0;
  for (int i = 0; i < kGroup; ++i) {
    codes[i] = static_cast<int8_t>(clampf(rne(x[i] * inv), -limit, limit));
    sum += codes[i];
  }
  return sum;
}

void quantize_row(const ActFormat& f, const QuantizeActArgs& args, const std::vector<float>& in, int64_t t) {
  const int groups = f.num_groups(), n8 = f.num_int8_groups;
  std::vector<float> x(static_cast<size_t>(f.k), 0.0f);
  for (int i = 0; i < f.k; ++i) {
    const int channel = args.perm != nullptr ? args.perm[i] : (i < f.k_in ? i : -1);
    if (channel >= 0) x[i] = in[channel];
  }
  if (f.rotate)
    for (int g = n8; g < groups; ++g) hadamard(&x[g * kGroup], kGroup, hadamard_scale(kGroup));

  int8_t* values = args.out.values + t * f.k;
  uint8_t* multipliers = args.out.multipliers + t * groups;
  int16_t* group_sums = args.out.group_sums + t * groups;
  std::fill(values, values + f.k, int8_t{0});
  std::fill(multipliers, multipliers + groups, uint8_t{1});
  std::fill(group_sums, group_sums + groups, int16_t{0});
  args.out.scales[t] = 0.0f;
  args.out.region1_factors[t] = 1;
  args.out.sums[t] = 0;
  if (!std::all_of(x.begin(), x.end(), [](float v) { return is_finite(v); })) {
    if (args.row_errors[t] == 0) args.row_errors[t] = args.error_tag;
    return;
  }

  float amax1 = amax_of(x.data(), f.k1()), amax2 = amax_of(x.data() + f.k1(), f.k2());
  const bool zero1 = amax1 < kMinAmax, zero2 = amax2 < kMinAmax;
  const TokenScales s = token_scales(amax1, amax2, f.clip1, f.clip2, region2_limit(f.bits2), max_region1_factor(f));
  if (s.sx == 0.0f) return;
  uint32_t osum = 0;
  for (int g = 0; g < groups; ++g) {
    const float* xg = &x[g * kGroup];
    if (g < n8) {
      if (zero1) continue;
      group_sums[g] =
          static_cast<int16_t>(encode_group(xg, static_cast<float>(s.r) * s.sx, 127.0f, values + g * kGroup));
      osum += static_cast<uint32_t>(s.r) * static_cast<uint32_t>(int32_t{group_sums[g]});
    } else if (f.bits2 == 8) {
      if (zero2) continue;
      group_sums[g] = static_cast<int16_t>(encode_group(xg, s.sx, 127.0f, values + g * kGroup));
      osum += static_cast<uint32_t>(int32_t{group_sums[g]});
    } else {
      if (zero2) continue;
      const int m = group_multiplier(amax_of(xg, kGroup), f.clip2, s.sx);
      multipliers[g] = static_cast<uint8_t>(m);
      group_sums[g] = static_cast<int16_t>(encode_group(xg, static_cast<float>(m) * s.sx, 7.0f, values + g * kGroup));
      for (int i = 0; i < kGroup; ++i) values[g * kGroup + i] = static_cast<int8_t>(values[g * kGroup + i] * m);
      osum += static_cast<uint32_t>(m * group_sums[g]);
    }
  }
  args.out.scales[t] = s.sx;
  args.out.region1_factors[t] = s.r;
  args.out.sums[t] = osum;
}

}  // namespace

void quantize_act_ref(const QuantizeActProblem& problem, const QuantizeActArgs& args) {
  for (int64_t t = 0; t < problem.m; ++t)
    quantize_row(problem.format, args, source_row(problem, args, args.row_ids != nullptr ? args.row_ids[t] : t), t);
}

}  // namespace comet
