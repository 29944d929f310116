// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/gemm_samples.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <thread>

#include "kernels/cuda/layouts_sm90.h"
#include "kernels/ref/ops_ref.h"

namespace comet::cuda {
namespace {

size_t output_bytes(GemmOutput output) { return output == GemmOutput::bf16 ? 2 : 4; }

int uniform(std::mt19937& rng, int low, int high) {
  return low + static_cast<int>(rng() % static_cast<unsigned>(high - low + 1));
}

void make_weights8(const GemmCase& c, GemmSample& s, std::mt19937& rng) {
  s.codes8.resize(static_cast<size_t>(c.n) * c.k);
  for (auto& v : s.codes8) v = static_cast<int8_t>(c.extreme ? -127 : uniform(rng, -127, 127));
}

void make_weights(const GemmCase& c, GemmSample& s, std::mt19937& rng) {
  s.codes.resize(static_cast<size_t>(c.n) * c.k / 2);
  for (auto& b : s.codes) b = static_cast<uint8_t>(c.extreme ? 0 : rng());
  for (int64_t i = 0; i < int64_t{c.n} * (c.k / kGroup); ++i) {
    const int s1 = c.extreme ? kMaxGroupScale : uniform(rng, 1, kMaxGroupScale);
    s.group_scales.push_back(static_cast<uint8_t>(s1));
    s.group_zeros.push_back(static_cast<uint8_t>(uniform(rng, min_group_zero(s1), max_group_zero(s1))));
  }
}

void make_acts(const GemmCase& c, GemmSample& s, std::mt19937& rng) {
  const int rmax = max_region1_factor({c.k, c.k, c.n8, c.bits2, false, 1.0f, 1.0f});
  std::uniform_real_distribution<float> scale(1e-4f, 1e-1f);
  for (int t = 0; t < c.m; ++t) {
    const int r = c.n8 == 0 ? 1 : (c.extreme ? rmax : uniform(rng, 1, std::min(rmax, 400)));
    uint32_t osum = 0;
    for (int g = 0; g < c.k / kGroup; ++g) {
      const bool is_4bit = g >= c.n8 && c.bits2 == 4;
      const int limit = is_4bit ? 7 : 127;
      const int m = !is_4bit ? 1 : (c.extreme ? kMaxMultiplier : uniform(rng, 1, kMaxMultiplier));
      int sum = 0;
      for (int i = 0; i < kGroup; ++i) {
        const int code = c.extreme ? limit : uniform(rng, -limit, limit);
        s.values.push_back(static_cast<int8_t>(code * m));
        sum += code;
      }
      s.multipliers.push_back(static_cast<uint8_t>(m));
      s.group_sums.push_back(static_cast<int16_t>(sum));
      osum += static_cast<uint32_t>(sum * m * (g < c.n8 ? r : 1));
    }
    s.factors.push_back(r);
    s.sums.push_back(osum);
    s.scales.push_back(scale(rng));
  }
}

// The reference on tokens [first, last).
void run_reference(GemmSample& s, std::vector<uint8_t>& packed, int first, int last) {
  GemmProblem p = s.problem;
  p.m = last - first;
  GemmArgs args;
  args.a.values = s.values.data() + static_cast<size_t>(first) * p.k;
  args.a.region1_factors = s.factors.data() + first;
  args.a.scales = s.scales.data() + first;
  args.a.sums = s.sums.data() + first;
  args.b.data = s.w8 ? static_cast<void*>(s.codes8.data()) : packed.data();
  args.channel_scales = s.channel_scales.data();
  args.bias = s.bias.empty() ? nullptr : s.bias.data();
  args.d = s.want.data() + static_cast<size_t>(first) * p.n * output_bytes(p.output);
  s.w8 ? gemm_w8a8_ref(p, args) : gemm_w4ax_ref(p, args);
}

}  // namespace

GemmSample::GemmSample(const GemmCase& c, bool w8_) : problem{c.m, c.n, c.k, c.n8, c.output}, bits2(c.bits2), w8(w8_) {
  std::mt19937 rng(static_cast<uint32_t>(c.m * 31 + c.n * 7 + c.k + c.n8));
  w8 ? make_weights8(c, *this, rng) : make_weights(c, *this, rng);
  make_acts(c, *this, rng);
  std::uniform_real_distribution<float> scale(1e-4f, 1e-2f), other(-3.0f, 3.0f);
  for (int i = 0; i < c.n; ++i) channel_scales.push_back(scale(rng));
  for (int i = 0; c.bias && i < c.n; ++i) bias.push_back(other(rng));
  d0.resize(static_cast<size_t>(c.m) * c.n);
  for (auto& v : d0) v = other(rng);
  want.resize(d0.size() * output_bytes(c.output));
  if (c.output != GemmOutput::bf16) memcpy(want.data(), d0.data(), want.size());

  std::vector<uint8_t> packed = codes;
  for (size_t i = 0; i < group_scales.size(); ++i) packed.push_back(pack_group_params(group_scales[i], group_zeros[i]));
  const int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  std::vector<std::thread> pool;
  for (int i = 0; i < threads; ++i)
    pool.emplace_back([&, i] { run_reference(*this, packed, c.m * i / threads, c.m * (i + 1) / threads); });
  for (auto& t : pool) t.join();
}

::testing::AssertionResult equals_reference(const std::vector<uint8_t>& got, const GemmSample& s) {
  if (got == s.want) return ::testing::AssertionSuccess();
  const size_t bytes = output_bytes(s.problem.output);
  size_t wrong = 0, first = 0;
  for (size_t i = got.size(); i > 0; i -= bytes)
    if (memcmp(&got[i - bytes], &s.want[i - bytes], bytes) != 0) first = i / bytes - 1, ++wrong;
  auto value = [&](const std::vector<uint8_t>& d) {
    if (bytes == 2) return to_float(reinterpret_cast<const bf16*>(d.data())[first]);
    return reinterpret_cast<const float*>(d.data())[first];
  };
  return ::testing::AssertionFailure() << wrong << " of " << got.size() / bytes << " differ, first at token "
                                       << first / s.problem.n << " row " << first % s.problem.n << ": got "
                                       << value(got) << ", ref " << value(s.want);
}

std::vector<int8_t> values_sm90(const GemmSample& s, ActLayout layout) {
  const int m = s.problem.m, k = s.problem.k;
  std::vector<int8_t> tiles(static_cast<size_t>(padded_tokens(m)) * k, int8_t{99});
  for (int t = 0; t < m; ++t)
    for (int i = 0; i < k; ++i)
      tiles[activation_offset_sm90(layout, m, t, i)] = s.values[static_cast<size_t>(t) * k + i];
  return tiles;
}

}  // namespace comet::cuda
