// SPDX-License-Identifier: Apache-2.0
// Plans and byte orders of the Ampere GEMM on the host: every step of every tile once, every byte once.
#include "kernels/cuda/gemm_plan_sm80.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace comet::cuda {
namespace {

constexpr DeviceSm80 kA100{108, 164 * 1024}, kL40S{142, 100 * 1024};

TEST(StepsSm80, KindsInOrder) {
  // k 4608 = 36 groups, 5 of 8 bits: 10 half groups, constants of groups 0..31 and 32..35, 31 groups of 4 bits.
  const StepsSm80 mixed = make_steps_sm80(4608, 5, 4);
  EXPECT_EQ(mixed.total, 10 + 2 + 31);
  EXPECT_EQ(step_kind(mixed, 9), StepKind::int8);
  EXPECT_EQ(step_kind(mixed, 10), StepKind::zero);
  EXPECT_EQ(step_kind(mixed, 11), StepKind::zero);
  EXPECT_EQ(step_kind(mixed, 12), StepKind::int4);
  EXPECT_EQ(make_steps_sm80(4608, 5, 8).total, 72);       // all groups of 8 bits
  EXPECT_EQ(make_steps_sm80(4608, 36, 4).total, 72);      // region 2 is empty
  EXPECT_EQ(make_steps_sm80(4608, 33, 4).zero_steps, 1);  // the first block has no 4-bit group
  EXPECT_EQ(make_steps_sm80(4608, 33, 4).first_zero, 1);
}

void expect_exact_cover(const GemmProblem& p, const GemmPlanSm80& plan) {
  SCOPED_TRACE(to_string(plan));
  const Schedule& s = plan.schedule;
  ASSERT_GE(s.tiles_m * plan.tile_m, p.m);
  ASSERT_GE(s.tiles_n * kTileRowsSm80, p.n);
  std::vector<int> seen(static_cast<size_t>(s.tiles_m) * s.tiles_n * s.groups);
  std::map<int, std::set<int>> contributors;
  std::set<int> slots;
  for (int cta = 0; cta < plan.ctas; ++cta) {
    WorkQueue queue = make_queue(s, cta, plan.ctas);
    int count = 0;
    for (Work w; next_work(queue, w); ++count) {
      ASSERT_LT(w.begin, w.end);
      for (int step = w.begin; step < w.end; ++step) ++seen[static_cast<size_t>(w.tile) * s.groups + step];
      if (w.end - w.begin == s.groups) continue;
      contributors[w.tile - s.full_tiles].insert(cta);
      const int slot = partial_slot(s, cta, w.tile - s.full_tiles);
      EXPECT_TRUE(slots.insert(slot).second) << "two parts in one slot";
      EXPECT_LE((static_cast<size_t>(slot) + 1) * kTileRowsSm80 * plan.tile_m * 4, plan.partial_bytes());
    }
    EXPECT_GT(count, 0) << "CTA " << cta << " has no work";
  }
  for (int times : seen) ASSERT_EQ(times, 1);
  for (const auto& [split, ctas] : contributors) {
    EXPECT_EQ(*ctas.begin(), first_contributor(s, split));
    EXPECT_EQ(*ctas.rbegin(), last_contributor(s, split));
    EXPECT_LE((static_cast<size_t>(split) + 1) * 4, plan.counter_bytes());
  }
}

TEST(GemmPlanSm80, EveryStepOfEveryTileOnce) {
  for (const int m : {1, 17, 64, 200, 257, 1024})
    for (const auto& [n, k] : {std::pair{16, 128}, {4096, 4096}, {1000, 8192}, {8192, 28672}})
      for (const int share4 : {0, 75, 100}) {
        const GemmProblem p{m, n, k, k / kGroup * (100 - share4) / 100, GemmOutput::bf16};
        for (const DeviceSm80& device : {kA100, kL40S}) expect_exact_cover(p, plan_gemm_w4ax_sm80(p, 4, device));
        for (const int tile_m : {16, 128})
          for (const bool split : {false, true})
            for (const int ctas : {1, 7, 216}) expect_exact_cover(p, tile_plan_sm80(p, 4, tile_m, ctas, split));
      }
}

TEST(GemmPlanSm80, TwoCtasOfEveryTileFitAnSm) {
  for (const TileChoiceSm80& tile : w4ax_tiles_sm80())
    for (const DeviceSm80& device : {kA100, kL40S})
      EXPECT_LE(2 * (tile.shared_bytes + 1024), device.shared_bytes) << tile.tile_m << " tokens";
}

TEST(GemmPlanSm80, WorkIsEvenOverBothPrecisions) {
  // 8192 x 28672 with a quarter of 8-bit groups: no CTA has more than a step above the mean.
  const GemmProblem p{256, 8192, 28672, 56, GemmOutput::bf16};
  const GemmPlanSm80 plan = plan_gemm_w4ax_sm80(p, 4, kA100);
  const Schedule& s = plan.schedule;
  EXPECT_LE(static_cast<int64_t>(s.range_groups) * plan.ctas,
            static_cast<int64_t>(s.tiles_m * s.tiles_n - s.full_tiles) * s.groups + plan.ctas);
}

TEST(LayoutsSm80, WeightBytesAreDistinct) {
  constexpr int n = 150, k = 33 * kGroup;
  std::set<size_t> bytes;  // a code's byte is shared by an even and an odd k
  for (int row = 0; row < n; ++row) {
    for (int c = 0; c < k; c += 2) {
      ASSERT_TRUE(bytes.insert(weight_offset_sm80(k, row, c)).second) << row << " " << c;
      ASSERT_EQ(weight_offset_sm80(k, row, c), weight_offset_sm80(k, row, c + 1));
    }
    for (int g = 0; g < k / kGroup; ++g) {
      ASSERT_TRUE(bytes.insert(weight_params_offset_sm80(k, row, g)).second) << row << " " << g;
      ASSERT_TRUE(bytes.insert(weight_zero_offset_sm80(k, row, g)).second) << row << " " << g;
    }
  }
  EXPECT_LT(*bytes.rbegin(), packed_weight_bytes_sm80(n, k));
}

TEST(LayoutsSm80, SlabWordsAreDistinctAndFill) {
  for (const int m : {1, 16, 70}) {
    std::set<size_t> words;
    for (int token = 0; token < padded_tokens_sm80(m); ++token)
      for (int t = 0; t < 4; ++t)
        for (int word = 0; word < 4; ++word) EXPECT_TRUE(words.insert(slab_offset_sm80(token, t, word)).second);
    EXPECT_EQ(words.size() * 4, slab_bytes_sm80(m));
    EXPECT_LT(*words.rbegin(), slab_bytes_sm80(m));
  }
}

TEST(LayoutsSm80, ConstantsSplitInTwoSignedBytes) {
  for (int v = -kMaxMultiplier * 7 * kGroup; v <= kMaxMultiplier * 7 * kGroup; ++v) {
    ASSERT_EQ(128 * zero_high(v) + zero_low(v), v);
    ASSERT_TRUE(zero_high(v) >= -128 && zero_high(v) <= 127 && zero_low(v) >= 0 && zero_low(v) <= 127) << v;
  }
}

}  // namespace
}  // namespace comet::cuda
