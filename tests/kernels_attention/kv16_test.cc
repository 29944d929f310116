// SPDX-License-Identifier: Apache-2.0
// The bf16 cache: within a derived bound of the reference (which sums in double), and the same bits for every ISA,
// chunking, batch and number of threads.
#include <algorithm>
#include <cmath>

#include "isa_test.h"

namespace comet {
namespace {

class AttentionKv16 : public IsaTest {};

double norm_of(const std::vector<float>& x, size_t first, size_t n) {
  double sum = 0.0;
  for (size_t i = first; i < first + n; ++i) sum += static_cast<double>(x[i]) * x[i];
  return std::sqrt(sum);
}

TEST_P(AttentionKv16, WithinTheBoundOfTheReference) {
  const Isa isa = GetParam();
  struct Shape {
    int heads, kv_heads, head_dim, length, window = 0;
  };
  for (const Shape& s : {Shape{8, 2, 64, 150},
                         {3, 3, 80, 70},
                         {4, 1, 256, 700},
                         {7, 1, 128, 4200},
                         {2, 1, 8, 64},
                         {4, 2, 64, 500, 24},
                         {7, 1, 128, 1300, 600},
                         {1, 1, 64, 400, 320}}) {
    AttentionCase c{.num_heads = s.heads, .num_kv_heads = s.kv_heads, .head_dim = s.head_dim, .bits = 16};
    c.out_dtype = DType::f32;
    c.lengths = {s.length};
    c.attend_from = s.length - 20;
    c.window = s.window;
    double key_norm = 0.0, value_max = 0.0;  // of what the cache holds: bf16 adds 2^-8
    std::vector<float> key;
    c.value = [&](std::mt19937_64& random, int kind, int, int) {
      const float x = normal(random) * (kind == 0 ? 3.0f : 1.0f);
      if (kind == 1) {
        key.push_back(x);
        if (key.size() == static_cast<size_t>(s.head_dim)) {
          key_norm = std::max(key_norm, norm_of(key, 0, key.size()) * (1.0 + 0x1p-7));
          key.clear();
        }
      }
      if (kind == 2) value_max = std::max(value_max, std::fabs(static_cast<double>(x)) * (1.0 + 0x1p-7));
      return x;
    };
    const AttentionRun run(c);
    const AttentionResult want = run.run(nullptr, {}), got = run.run(&isa, {.threads = 2});
    EXPECT_TRUE(is_equal(got, want, false));
    const size_t d = static_cast<size_t>(s.head_dim);
    for (size_t p = static_cast<size_t>(c.attend_from); p < want.out[0].size(); ++p)
      for (size_t h = 0; h < static_cast<size_t>(s.heads); ++h) {
        // A score's error: d + 2 roundings of a sum of products below |q| |k|; the difference of two scores has twice
        // it and one rounding of its own. Then every p and every sum is off by a relative error, and so are O and l.
        const double magnitude =
            norm_of(want.q[0][p], h * d, d) * key_norm * 1.4427 / std::sqrt(static_cast<double>(d));
        const double score_error = magnitude * static_cast<double>(d + 6) * 0x1p-24;
        const double folds = 3.0 + static_cast<double>(p) / 256.0;
        const double relative =
            (std::exp2(2.0 * score_error) - 1.0) + (64.0 + 2.0 * folds) * 0x1p-24 + (1.0 + folds) * 3e-7;
        for (size_t i = 0; i < d; ++i) {
          float a, b;
          std::memcpy(&a, &got.out[0][p][(h * d + i) * 4], 4);
          std::memcpy(&b, &want.out[0][p][(h * d + i) * 4], 4);
          ASSERT_LE(std::fabs(static_cast<double>(a) - b), 2.0 * relative * value_max + 0x1p-24 * std::fabs(b))
              << "position " << p << " head " << h << " channel " << i;
        }
      }
  }
}

TEST_P(AttentionKv16, OneSetOfBits) {
  const Isa isa = GetParam();
  AttentionCase c{.num_heads = 14, .num_kv_heads = 2, .head_dim = 80, .bits = 16};
  c.lengths = {400, 65, 1};
  for (int window : {0, 1, 70, 256}) {
    c.window = window;
    const AttentionRun run(c);
    const Isa first = kAllIsas[0];
    const AttentionResult want = run.run(&first, {});
    for (int chunk : {1, 7, 64, 1 << 20})
      EXPECT_TRUE(is_equal(
          run.run(
              &isa,
              {.chunk = chunk, .threads = chunk % 3 + 1, .block_seed = static_cast<uint64_t>(chunk), .forgets = true}),
          want))
          << "chunk " << chunk << " window " << window;
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, AttentionKv16, ::testing::ValuesIn(kAllIsas), isa_name);

}  // namespace
}  // namespace comet
