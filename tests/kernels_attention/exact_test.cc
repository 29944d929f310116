// SPDX-License-Identifier: Apache-2.0
// kv4 and kv8 equal the reference bit for bit, whatever the shape, the values and the schedule.
#include "isa_test.h"

namespace comet {
namespace {

class AttentionExact : public IsaTest {
 protected:
  // Runs the case on the reference once and on the ISA under each schedule.
  void expect_equal(const AttentionCase& c, const std::vector<Schedule>& schedules) {
    const AttentionRun run(c);
    const AttentionResult want = run.run(nullptr, {});
    const Isa isa = GetParam();
    for (const Schedule& s : schedules)
      EXPECT_TRUE(is_equal(run.run(&isa, s), want))
          << c.name << " heads " << c.num_heads << "/" << c.num_kv_heads << " head_dim " << c.head_dim << " kv"
          << c.bits << " chunk " << s.chunk << " threads " << s.threads;
  }
};

TEST_P(AttentionExact, Shapes) {
  struct Shape {
    int heads, kv_heads, head_dim;
  };
  for (const Shape& shape : {Shape{2, 2, 8},
                             {8, 2, 64},
                             {32, 1, 64},
                             {7, 1, 64},
                             {3, 3, 80},
                             {14, 2, 128},
                             {4, 1, 256},
                             {5, 5, 2},
                             {6, 2, 96},
                             {10, 2, 34},
                             {33, 1, 16}})
    for (int bits : {4, 8}) {
      AttentionCase c{.name = "shape",
                      .num_heads = shape.heads,
                      .num_kv_heads = shape.kv_heads,
                      .head_dim = shape.head_dim,
                      .bits = bits};
      c.k_rotate = is_power_of_two(shape.head_dim);
      c.lengths = {70, 3};
      expect_equal(c, {{}, {.threads = 2, .block_seed = 5}});
    }
}

TEST_P(AttentionExact, NormDtypesAndRotation) {
  for (bool k_rotate : {false, true})
    for (bool has_norm : {false, true})
      for (int head_dim : {4, 64, 128, 256}) {
        AttentionCase c{.name = "norm",
                        .num_heads = 3,
                        .num_kv_heads = 1,
                        .head_dim = head_dim,
                        .k_rotate = k_rotate,
                        .has_norm = has_norm};
        c.qkv_dtype = k_rotate ? DType::bf16 : DType::f32;
        c.out_dtype = has_norm ? DType::f32 : DType::bf16;
        c.lengths = {66};
        expect_equal(c, {{}});
      }
}

// Every way to cut the work gives the bits of the reference run in one piece; unused slots hold NaN scales.
TEST_P(AttentionExact, ChunksBatchesThreads) {
  for (int bits : {4, 8}) {
    AttentionCase c{
        .name = "chunks", .num_heads = 8, .num_kv_heads = 2, .head_dim = 64, .bits = bits, .k_rotate = true};
    c.lengths = {200, 1, 65, 64, 129};
    std::vector<Schedule> schedules;
    for (int chunk : {1, 7, 64, 1 << 20})
      for (int threads : {1, 2})
        schedules.push_back({.chunk = chunk, .threads = threads, .block_seed = static_cast<uint64_t>(chunk + threads)});
    schedules.push_back({.chunk = 33, .one_at_a_time = true, .threads = 2});
    schedules.push_back({.chunk = 64, .threads = 5});
    schedules.push_back({.chunk = 7, .poison = 0x00});
    schedules.push_back({.chunk = 7, .poison = 0x7d});
    expect_equal(c, schedules);
  }
}

// Past 4,096 keys: 17 and more splits, folded on the fly (one thread) and from partial results (several).
TEST_P(AttentionExact, ManySplits) {
  struct Shape {
    int heads, kv_heads, head_dim, length, bits;
  };
  for (const Shape& s : {Shape{8, 1, 64, 4400, 4}, {2, 2, 128, 6001, 4}, {4, 1, 64, 4225, 8}}) {
    AttentionCase c{.name = "splits",
                    .num_heads = s.heads,
                    .num_kv_heads = s.kv_heads,
                    .head_dim = s.head_dim,
                    .bits = s.bits,
                    .k_rotate = true};
    c.lengths = {s.length, 300};
    c.attend_from = s.length - 3;
    // the largest score wanders over the blocks, so that folds rescale both ways
    c.value = [](std::mt19937_64& random, int kind, int position, int) {
      return normal(random) * (kind == 1 ? 1.0f + static_cast<float>((position / 64) * 7919 % 23) / 4.0f : 1.0f);
    };
    expect_equal(c, {{.threads = 1}, {.threads = 2, .block_seed = 9}, {.chunk = 1000, .threads = 7}});
  }
}

TEST_P(AttentionExact, ExtremeCodes) {
  for (int bits : {4, 8})
    for (int pattern = 0; pattern < 6; ++pattern) {
      AttentionCase c{.name = "extreme " + std::to_string(pattern),
                      .num_heads = 6,
                      .num_kv_heads = 2,
                      .head_dim = 128,
                      .bits = bits};
      c.has_plain_rope = true;
      c.lengths = {140};
      c.value = [pattern](std::mt19937_64& random, int kind, int position, int channel) {
        const bool coin = (random() & 1) != 0;
        const float sign = channel % 2 == 0 ? 1.0f : -1.0f;
        switch (pattern) {
          case 0: return 1.0f;                                    // all codes 15 (127), all q8 127
          case 1: return kind == 0 ? 1.0f : -1.0f;                // zero points 15
          case 2: return sign;                                    // dots at the limit of 8 bits
          case 3: return kind == 0 ? sign : coin ? 1.0f : -1.0f;  // only the two end codes
          case 4: return kind == 1 && position % 3 == 0 ? 0.0f : coin ? 1.0f : -1.0f;
          default: return kind == 1 ? (coin ? 1.0f : 0.999f) : sign * static_cast<float>(position % 5);
        }
      };
      expect_equal(c, {{}, {.chunk = 1, .threads = 2}});
    }
}

TEST_P(AttentionExact, ExtremeMagnitudes) {
  struct Scale {
    float q, k, v;
  };
  for (const Scale& s : {Scale{1, 1, 0},
                         {0, 1, 1},
                         {1, 0, 1},
                         {1e4f, 1e3f, 1},
                         {1e-3f, 1e-3f, 1e-7f},
                         {1e-32f, 1, 1},
                         {1e-38f, 1e-38f, 1e-38f},
                         {1, 1e-6f, 2e5f},
                         {30, 4e5f, 1},
                         {1e25f, 1e-8f, 3e-8f},
                         {1, 3e-7f, 6e-7f}})
    for (int bits : {4, 8}) {
      AttentionCase c{.name = fmt::format("magnitude {} {} {}", s.q, s.k, s.v),
                      .num_heads = 4,
                      .num_kv_heads = 1,
                      .head_dim = 64,
                      .bits = bits};
      c.out_dtype = DType::f32;
      c.lengths = {270};
      c.attend_from = 200;
      c.value = [s](std::mt19937_64& random, int kind, int, int) {
        return normal(random) * (kind == 0 ? s.q : kind == 1 ? s.k : s.v);
      };
      expect_equal(c, {{}, {.chunk = 64, .threads = 2}});
    }
}

INSTANTIATE_TEST_SUITE_P(Isas, AttentionExact, ::testing::ValuesIn(kAllIsas), isa_name);

}  // namespace
}  // namespace comet
