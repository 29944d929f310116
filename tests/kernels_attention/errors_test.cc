// SPDX-License-Identifier: Apache-2.0
// A non-finite value, or a scale that fp16 cannot hold, marks its own row and no other; all as the reference does it.
#include <limits>

#include "isa_test.h"

namespace comet {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

class AttentionErrors : public IsaTest {};

TEST_P(AttentionErrors, AppendMarksTheRowAndStoresZeros) {
  const Isa isa = GetParam();
  struct Fault {
    const char* name;
    int kind;
    float value;
  };
  for (const Fault& f : {Fault{"NaN in q", 0, kNan},
                         {"inf in k", 1, kInf},
                         {"-inf in v", 2, -kInf},
                         {"NaN in v", 2, kNan},
                         {"k scale", 1, 9e6f},
                         {"v scale", 2, -9e6f}})
    for (int bits : {4, 8}) {
      AttentionCase c{.name = f.name, .num_heads = 4, .num_kv_heads = 2, .head_dim = 64, .bits = bits};
      c.lengths = {90, 20};
      c.value = [f](std::mt19937_64& random, int kind, int position, int channel) {
        const float x = normal(random);
        return kind == f.kind && position == 17 && channel == 63 ? f.value : x;
      };
      const AttentionRun run(c);
      const AttentionResult want = run.run(nullptr, {}), got = run.run(&isa, {.chunk = 30, .threads = 2});
      EXPECT_TRUE(is_equal(got, want)) << f.name << " kv" << bits;
      for (int s : {0, 1})
        for (int p = 0; p < c.lengths[static_cast<size_t>(s)]; ++p)
          EXPECT_EQ(got.append_errors[static_cast<size_t>(s)][static_cast<size_t>(p)], p == 17 ? 77u : 0u)
              << f.name << " position " << p;
      for (float q : got.q[0][17]) EXPECT_EQ(q, 0.0f);
    }
}

TEST_P(AttentionErrors, AttentionMarksRowsWithoutFiniteQ) {
  const Isa isa = GetParam();
  for (int bits : {4, 8, 16})
    for (int threads : {1, 2}) {
      AttentionCase c{.name = "q", .num_heads = 8, .num_kv_heads = 2, .head_dim = 80, .bits = bits};
      c.lengths = {600, 5};
      c.attend_from = 597;
      c.lengths[1] = 599;
      AttentionRun run(c);
      const AttentionResult clean = run.run(&isa, {.threads = threads});
      run.spoiled_q = {{0, 598, 3 * 80 + 79, kNan}, {1, 598, 0, -kInf}};
      const AttentionResult want = run.run(nullptr, {}), got = run.run(&isa, {.threads = threads});
      EXPECT_TRUE(is_equal(got, want, bits != 16));
      const size_t head_bytes = 80 * dtype_bytes(c.out_dtype);
      for (size_t s : {0, 1})
        for (size_t p = 597; p < got.out[s].size(); ++p) {
          const bool is_spoiled = p == 598;
          EXPECT_EQ(got.attention_errors[s][p], is_spoiled ? 99u : 0u);
          for (size_t h = 0; h < 8; ++h) {
            std::vector<uint8_t> head(got.out[s][p].begin() + static_cast<ptrdiff_t>(h * head_bytes),
                                      got.out[s][p].begin() + static_cast<ptrdiff_t>((h + 1) * head_bytes));
            std::vector<uint8_t> expected(clean.out[s][p].begin() + static_cast<ptrdiff_t>(h * head_bytes),
                                          clean.out[s][p].begin() + static_cast<ptrdiff_t>((h + 1) * head_bytes));
            if (is_spoiled && h == (s == 0 ? 3u : 0u)) expected.assign(head_bytes, 0);
            EXPECT_EQ(head, expected) << "sequence " << s << " position " << p << " head " << h;
          }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Isas, AttentionErrors, ::testing::ValuesIn(kAllIsas), isa_name);

}  // namespace
}  // namespace comet
