// SPDX-License-Identifier: Apache-2.0
// Attention windows: kv4 and kv8 equal the reference bit for bit, and a window that begins with a split is a shorter
// sequence.
#include "isa_test.h"

namespace comet {
namespace {

class AttentionWindow : public IsaTest {
 protected:
  // Keys and values before a window are large, so that one that is seen by mistake changes every bit.
  static float fading(std::mt19937_64& random, int kind, int position, int) {
    return normal(random) * (kind == 0 ? 1.0f : 8.0f / static_cast<float>(1 + position % 97));
  }
  void expect_equal(const AttentionCase& c, const std::vector<Schedule>& schedules) {
    const AttentionRun run(c);
    const AttentionResult want = run.run(nullptr, {});
    const Isa isa = GetParam();
    for (const Schedule& s : schedules)
      EXPECT_TRUE(is_equal(run.run(&isa, s), want))
          << "window " << c.window << " heads " << c.num_heads << "/" << c.num_kv_heads << " kv" << c.bits << " chunk "
          << s.chunk << " threads " << s.threads;
  }
};

// Shorter than a kv_block, around kv_blocks and splits, longer than the sequence; the rows of a chunk begin in
// different kv_blocks. One head to a KV head: 32 positions in a tile.
TEST_P(AttentionWindow, AroundBlocksAndSplits) {
  for (int bits : {4, 8})
    for (int window : {1, 2, 23, 63, 64, 65, 128, 200, 255, 256, 257, 300, 330, 1000}) {
      AttentionCase c{.num_heads = 3, .num_kv_heads = bits == 4 ? 3 : 1, .head_dim = 64, .bits = bits};
      c.k_rotate = true;
      c.lengths = {330, 70};
      c.window = window;
      c.value = fading;
      expect_equal(c, {{},
                       {.chunk = 1, .forgets = true},
                       {.chunk = 7, .threads = 2, .forgets = true},
                       {.chunk = 64, .threads = 5, .forgets = true},
                       {.chunk = 100, .threads = 2, .block_seed = 3, .poison = 0x7d, .forgets = true}});
    }
}

// Several splits inside the window and several before it, folded on the fly and from partial results.
TEST_P(AttentionWindow, ManySplits) {
  for (int window : {500, 1500, 4096}) {
    AttentionCase c{.num_heads = 2, .num_kv_heads = 1, .head_dim = 64, .bits = window == 1500 ? 8 : 4};
    c.k_rotate = true;
    c.lengths = {4300, 900};
    c.attend_from = 4260;
    c.window = window;
    c.value = fading;
    expect_equal(c, {{.threads = 1},
                     {.threads = 2, .block_seed = 9},
                     {.chunk = 13, .threads = 7},
                     {.chunk = 4275, .threads = 3, .forgets = true}});
  }
  AttentionCase decode{.num_heads = 4, .num_kv_heads = 1, .head_dim = 64};
  decode.lengths = {2060, 2049};
  decode.attend_from = 2048;
  decode.window = 1000;
  decode.value = fading;
  expect_equal(decode, {{.chunk = 2048, .threads = 1}, {.chunk = 2048, .threads = 8}});
}

// A row whose window begins at a multiple of 256 gives the bits of a sequence that begins there.
TEST_P(AttentionWindow, IsAShorterSequence) {
  const Isa isa = GetParam();
  for (int bits : {4, 8, 16}) {
    constexpr int kShift = 512, kWindow = 300;
    auto make_case = [bits](int shift) {
      AttentionCase c{.num_heads = 2, .num_kv_heads = 1, .head_dim = 64, .bits = bits};
      c.has_plain_rope = true;
      c.value = [shift](std::mt19937_64&, int kind, int position, int channel) {  // a function of its arguments alone
        const uint32_t hash = static_cast<uint32_t>(((position + shift) * 3 + kind) * 64 + channel) * 2654435761u;
        return static_cast<float>(static_cast<int32_t>(hash ^ (hash >> 15) * 2246822519u)) * 0x1p-30f;
      };
      return c;
    };
    AttentionCase windowed = make_case(0), shorter = make_case(kShift);
    windowed.lengths = {kShift + kWindow};
    windowed.window = kWindow;
    shorter.lengths = {kWindow};
    const AttentionResult got = AttentionRun(windowed).run(&isa, {.threads = 2}),
                          want = AttentionRun(shorter).run(&isa, {});
    EXPECT_EQ(got.out[0].back(), want.out[0].back()) << "kv" << bits;
    EXPECT_NE(got.out[0][kShift + kWindow - 2], want.out[0][kWindow - 2]) << "kv" << bits;
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, AttentionWindow, ::testing::ValuesIn(kAllIsas), isa_name);

}  // namespace
}  // namespace comet
