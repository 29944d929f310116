// SPDX-License-Identifier: Apache-2.0
#include "kernels/samples.h"

namespace comet {
namespace {

int uniform(std::mt19937& rng, int low, int high) { return std::uniform_int_distribution<int>(low, high)(rng); }

}  // namespace

WeightsSample make_weights(int n, int k, Codes codes, unsigned seed) {
  std::mt19937 rng(seed);
  WeightsSample w;
  w.n = n;
  w.k = k;
  const bool extreme = codes == Codes::extreme;
  for (int64_t i = 0; i < int64_t{n} * (k / kGroup); ++i) {
    const int s1 = extreme ? kMaxGroupScale : uniform(rng, 1, kMaxGroupScale);
    w.group_scales.push_back(static_cast<uint8_t>(s1));
    w.group_zeros.push_back(static_cast<uint8_t>(uniform(rng, min_group_zero(s1), max_group_zero(s1))));
    const int end = uniform(rng, 0, 1) * 15;
    for (int b = 0; b < kGroup / 2; ++b)
      w.codes.push_back(extreme ? pack_nibbles(end, end) : static_cast<uint8_t>(uniform(rng, 0, 255)));
    for (int b = 0; b < kGroup; ++b)
      w.codes8.push_back(static_cast<int8_t>(extreme ? (end ? 127 : -127) : uniform(rng, -127, 127)));
  }
  for (int i = 0; i < n; ++i) {
    w.channel_scales.push_back(std::uniform_real_distribution<float>(1e-4f, 1e-2f)(rng));
    w.bias.push_back(to_float(to_bf16(std::normal_distribution<float>(0.0f, 1.0f)(rng))));
  }
  return w;
}

ActsSample make_acts(int m, int k, int num_int8_groups, int bits2, Codes codes, unsigned seed) {
  std::mt19937 rng(seed);
  ActsSample a;
  a.m = m;
  a.k = k;
  a.num_int8_groups = num_int8_groups;
  ActFormat format;
  format.k = format.k_in = k;
  format.num_int8_groups = num_int8_groups;
  format.bits2 = bits2;
  const int rmax = max_region1_factor(format);
  const bool extreme = codes == Codes::extreme;
  for (int t = 0; t < m; ++t) {
    const int r = extreme ? rmax : uniform(rng, 1, rmax);
    uint32_t osum = 0;
    for (int g = 0; g < k / kGroup; ++g) {
      const bool is_4bit = g >= num_int8_groups && bits2 == 4;
      const int limit = is_4bit ? 7 : 127;
      const int multiplier = !is_4bit ? 1 : extreme ? kMaxMultiplier : uniform(rng, 1, kMaxMultiplier);
      const int end = uniform(rng, 0, 1) != 0 ? limit : -limit;
      int sum = 0;
      for (int i = 0; i < kGroup; ++i) {
        const int code = extreme ? end : uniform(rng, -limit, limit);
        sum += code;
        a.values.push_back(static_cast<int8_t>(code * multiplier));
      }
      a.multipliers.push_back(static_cast<uint8_t>(multiplier));
      a.group_sums.push_back(static_cast<int16_t>(sum));
      osum += static_cast<uint32_t>(g < num_int8_groups ? r : multiplier) * static_cast<uint32_t>(sum);
    }
    a.region1_factors.push_back(r);
    a.scales.push_back(std::uniform_real_distribution<float>(1e-3f, 1.0f)(rng));
    a.sums.push_back(osum);
  }
  return a;
}

DeviceActs upload(Backend& backend, const ActsSample& sample) {
  DeviceActs d{DeviceBuffer(backend, backend.acts_bytes(sample.m, sample.k)), {}};
  d.acts = backend.bind_acts(d.memory.data(), sample.m, sample.k);
  auto put = [&](auto* to, const auto& from) { backend.copy_in(to, from.data(), from.size() * sizeof(from[0])); };
  put(d.acts.values, sample.values);
  put(d.acts.multipliers, sample.multipliers);
  put(d.acts.group_sums, sample.group_sums);
  put(d.acts.region1_factors, sample.region1_factors);
  put(d.acts.scales, sample.scales);
  put(d.acts.sums, sample.sums);
  return d;
}

ActsSample download(Backend& backend, const QuantizedActs& acts, int m, int k, int num_int8_groups) {
  const size_t rows = static_cast<size_t>(m), groups = rows * static_cast<size_t>(k / kGroup);
  return {m,
          k,
          num_int8_groups,
          download<int8_t>(backend, acts.values, rows * static_cast<size_t>(k)),
          download<uint8_t>(backend, acts.multipliers, groups),
          download<int16_t>(backend, acts.group_sums, groups),
          download<int32_t>(backend, acts.region1_factors, rows),
          download<float>(backend, acts.scales, rows),
          download<uint32_t>(backend, acts.sums, rows)};
}

}  // namespace comet
