// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/quantize_samples.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "kernels/cuda/layouts_sm80.h"
#include "kernels/ref/ops_ref.h"

namespace comet::cuda {
namespace {

std::vector<float> make_rows(int m, int width, std::mt19937& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(m) * width);
  for (int t = 0; t < m; ++t) {
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

template <typename T>
void append(std::vector<uint8_t>& bytes, T value) {
  const auto* from = reinterpret_cast<const uint8_t*>(&value);
  bytes.insert(bytes.end(), from, from + sizeof(T));
}

std::vector<uint8_t> as_bytes(const std::vector<float>& x, DType type) {
  std::vector<uint8_t> bytes;
  bytes.reserve(x.size() * dtype_bytes(type));
  for (const float v : x) {
    if (type == DType::f32)
      append(bytes, v);
    else if (type == DType::bf16)
      append(bytes, to_bf16(v));
    else
      append(bytes, to_f16(v));
  }
  return bytes;
}

}  // namespace

std::string to_string(const QuantizeCase& c) {
  const char* const sources[] = {"f32", "bf16", "rms_norm", "silu_mul"};
  return fmt::format("{}_m{}_kin{}_k{}_n{}_b{}{}{}_{}", sources[static_cast<int>(c.source)], c.m, c.k_in, c.k, c.n8,
                     c.bits2, c.rotate ? "_rotated" : "", c.permute ? "_permuted" : "", comet::to_string(c.gain));
}

QuantizeSample::QuantizeSample(const QuantizeCase& c)
    : shape(c), problem{c.m, {c.k_in, c.k, c.n8, c.bits2, c.rotate, 0.9f, 0.95f}, c.source} {
  std::mt19937 rng(static_cast<uint32_t>(c.m + c.k * 3 + c.n8));
  const size_t groups = static_cast<size_t>(c.k / kGroup), m = static_cast<size_t>(c.m);
  const bool is_half = c.source == ActSource::bf16 || c.source == ActSource::silu_mul;
  x = as_bytes(make_rows(c.m, c.source == ActSource::silu_mul ? 2 * c.k_in : c.k_in, rng),
               is_half ? DType::bf16 : DType::f32);
  perm.assign(c.k, -1);
  std::iota(perm.begin(), perm.begin() + c.k_in, 0);
  std::shuffle(perm.begin(), perm.begin() + c.k_in, rng);
  if (c.k_in < c.k) std::shuffle(perm.begin(), perm.end(), rng);  // padding channels anywhere
  std::vector<float> gains(c.k_in);
  for (auto& g : gains) g = 0.5f + static_cast<float>(rng() % 1000) * 1e-3f;
  gain = as_bytes(gains, c.gain);
  for (int t = 0; t < c.m; ++t) rows.push_back(c.m - 1 - t);

  values.resize(m * c.k), multipliers.resize(m * groups), group_sums.resize(m * groups);
  factors.resize(m), scales.resize(m), sums.resize(m), errors.resize(m);
  QuantizeActArgs args = args_at(x.data(), rows.data(), gain.data(), perm.data());
  args.out = {ActLayout::rows, values.data(), multipliers.data(), group_sums.data(),
              factors.data(),  scales.data(), sums.data()};
  args.row_errors = errors.data();
  quantize_act_ref(problem, args);
}

QuantizeActArgs QuantizeSample::args_at(const void* x_at, const int32_t* rows_at, const void* gain_at,
                                        const int32_t* perm_at) const {
  QuantizeActArgs args;
  args.x = x_at;
  args.row_ids = rows_at;
  args.gain = gain_at;
  args.gain_dtype = shape.gain;
  args.eps = 1e-5f;
  args.perm = shape.permute ? perm_at : nullptr;
  args.error_tag = kErrorTag;
  return args;
}

PackedActsSm80 pack_on_host_sm80(const QuantizeSample& s) {
  const ActFormat& f = s.problem.format;
  const StepsSm80 steps = make_steps_sm80(f.k, f.num_int8_groups, f.bits2);
  const int m = s.problem.m, padded = padded_tokens_sm80(m);
  PackedActsSm80 packed{std::vector<int8_t>(packed_act_bytes_sm80(steps, m)),
                        std::vector<uint8_t>(static_cast<size_t>(steps.groups) * padded, 1)};
  const auto put = [&](const ActPlaceSm80& at, int token, int bits) {
    const size_t byte = at.step * slab_bytes_sm80(m) + slab_offset_sm80(token, at.t, at.word) + at.bit / 8;
    packed.values[byte] = static_cast<int8_t>(packed.values[byte] | bits << at.bit % 8);
  };
  for (int t = 0; t < m; ++t) {
    for (int g = 0; g < steps.groups; ++g) {
      const size_t at = static_cast<size_t>(t) * steps.groups + g;
      const bool is_4bit = g >= steps.int8_steps / 2;
      const int multiplier = s.multipliers[at], v = multiplier * s.group_sums[at];
      packed.multipliers[static_cast<size_t>(g) * padded + t] = s.multipliers[at];
      for (int k = g * kGroup; k < (g + 1) * kGroup; ++k) {
        const int value = s.values[static_cast<size_t>(t) * f.k + k];
        put(code_place_sm80(steps, k), t, is_4bit ? value / multiplier & 15 : value);
      }
      if (!is_4bit) continue;
      ActPlaceSm80 place = zero_place_sm80(steps, g);
      put(place, t, zero_high(v));
      place.word += 2;
      put(place, t, zero_low(v));
    }
  }
  return packed;
}

}  // namespace comet::cuda
