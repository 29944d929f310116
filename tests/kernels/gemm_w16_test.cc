// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/check_problem.h"
#include "kernels/samples.h"

namespace comet {
namespace {

constexpr double kUnit = 0x1p-24;  // rounding unit of fp32

struct W16Sample {
  int m = 0, n = 0, k = 0;
  DType dtype = DType::bf16;
  std::vector<float> a, bias;
  std::vector<uint8_t> b;  // as stored
  std::vector<float> b_widened;
};

W16Sample make_sample(int m, int n, int k, DType dtype, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  W16Sample s{m, n, k, dtype, {}, {}, {}, {}};
  for (int64_t i = 0; i < int64_t{m} * k; ++i)
    s.a.push_back(normal(rng) * std::exp2(static_cast<float>(rng() % 9) - 4.0f));
  for (int i = 0; i < n; ++i) s.bias.push_back(normal(rng));
  for (int64_t i = 0; i < int64_t{n} * k; ++i) {
    const float w = normal(rng) * 0.05f;
    uint8_t bytes[4];
    float widened = w;
    if (dtype == DType::f32) memcpy(bytes, &w, 4);
    if (dtype == DType::bf16) {
      const bf16 x = to_bf16(w);
      memcpy(bytes, &x, 2);
      widened = to_float(x);
    }
    if (dtype == DType::f16) {
      const f16 x = to_f16(w);
      memcpy(bytes, &x, 2);
      widened = to_float(x);
    }
    s.b.insert(s.b.end(), bytes, bytes + dtype_bytes(dtype));
    s.b_widened.push_back(widened);
  }
  return s;
}

// Rows [first, first + count) of the sample.
std::vector<float> run(Backend& backend, const W16Sample& s, GemmOutput output, bool has_bias, int first, int count) {
  const std::vector<float> rows(s.a.begin() + int64_t{first} * s.k, s.a.begin() + int64_t{first + count} * s.k);
  const DeviceBuffer a = comet::upload(backend, rows), b = comet::upload(backend, s.b),
                     bias = comet::upload(backend, s.bias);
  const size_t outputs = static_cast<size_t>(count) * static_cast<size_t>(s.n);
  const DeviceBuffer d = comet::upload(backend, std::vector<float>(outputs, 0.5f));
  backend.gemm_w16({.m = count, .n = s.n, .k = s.k, .output = output}, {.a = a.as<float>(),
                                                                        .b = b.data(),
                                                                        .b_dtype = s.dtype,
                                                                        .bias = has_bias ? bias.as<float>() : nullptr,
                                                                        .d = d.as<float>()});
  return download<float>(backend, d.data(), outputs);
}

class GemmW16Test : public BackendTest {};

// A sum of K products in chains, a tree and K / 512 blocks: with at most `steps` roundings on the way of any product,
// the error is below steps * u / (1 - steps * u) * sum |a| |b|; bias, residual and the reference's own rounding add one
// unit each.
TEST_P(GemmW16Test, WithinTheBoundOfTheReference) {
  for (DType dtype : {DType::bf16, DType::f16, DType::f32})
    for (int k : {1, 7, 8, 17, 100, 511, 512, 513, 1300})
      for (int m : {1, 2, 3, 5, 6, 7, 13, 40})
        for (int n : {1, 3, 66}) {
          const W16Sample s = make_sample(m, n, k, dtype, 3);
          const GemmOutput output = m % 2 != 0 ? GemmOutput::f32 : GemmOutput::add_f32;
          const std::vector<float> got = run(*backend_, s, output, n == 66, 0, m),
                                   want = run(*ref_, s, output, n == 66, 0, m);
          const double steps = 512.0 / 8 + 3 + std::ceil(k / 512.0);
          for (int t = 0; t < m; ++t)
            for (int c = 0; c < n; ++c) {
              double magnitude = 0.0;
              for (int i = 0; i < k; ++i)
                magnitude += std::fabs(static_cast<double>(s.a[static_cast<size_t>(t * k + i)]) *
                                       static_cast<double>(s.b_widened[static_cast<size_t>(c * k + i)]));
              const size_t at = static_cast<size_t>(t * n + c);
              const double bound = steps * kUnit / (1 - steps * kUnit) * magnitude +
                                   4 * kUnit * (magnitude + std::fabs(s.bias[static_cast<size_t>(c)]) + 0.5);
              ASSERT_LE(std::fabs(static_cast<double>(got[at]) - static_cast<double>(want[at])), bound)
                  << to_string(dtype) << " m=" << m << " n=" << n << " k=" << k << " at " << t << ", " << c;
            }
        }
}

TEST_P(GemmW16Test, ARowDoesNotDependOnItsBatch) {
  for (DType dtype : {DType::bf16, DType::f32}) {
    const W16Sample s = make_sample(40, 131, 1300, dtype, 4);
    const std::vector<float> all = run(*backend_, s, GemmOutput::f32, true, 0, s.m);
    for (int count : {1, 2, 3, 4, 5, 7, 13})
      for (int first = 0; first + count <= s.m; first += 9) {
        const std::vector<float> part(all.begin() + int64_t{first} * s.n, all.begin() + int64_t{first + count} * s.n);
        EXPECT_TRUE(same_bits(run(*backend_, s, GemmOutput::f32, true, first, count), part))
            << count << " rows from " << first;
      }
  }
}

TEST_P(GemmW16Test, ThreadsDoNotMatter) {
  const W16Sample s = make_sample(530, 70, 600, DType::bf16, 5);
  const auto three = cpu_backend(GetParam().isa, std::make_shared<ThreadPool>(3));
  EXPECT_TRUE(same_bits(run(*backend_, s, GemmOutput::add_f32, true, 0, s.m),
                        run(*three, s, GemmOutput::add_f32, true, 0, s.m)));
}

COMET_BACKEND_CASES(GemmW16Test);

}  // namespace
}  // namespace comet
