// SPDX-License-Identifier: Apache-2.0
// Plans are pure host functions: every group of every tile is computed exactly once, on any machine.
#include "kernels/cuda/gemm_plan.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "kernels/cuda/layouts_sm90.h"
#include "kernels/cuda/tile/gemv_shape.h"

namespace comet::cuda {
namespace {

void expect_exact_cover(const GemmProblem& p, const GemmPlan& plan) {
  SCOPED_TRACE(to_string(plan));
  const Schedule& s = plan.schedule;
  ASSERT_GE(s.tiles_m * plan.tile_m, p.m);
  ASSERT_GE(s.tiles_n * plan.rows, p.n);
  std::vector<int> seen(static_cast<size_t>(s.tiles_m) * s.tiles_n * s.groups);
  std::map<int, std::set<int>> helpers;
  for (int cta = 0; cta < plan.ctas; ++cta) {
    const bool has_sides = plan.sides > 1;
    WorkQueue queue = has_sides ? make_queue<2>(s, cta, plan.ctas) : make_queue(s, cta, plan.ctas);
    int count = 0;
    for (Work w; has_sides ? next_work<2>(queue, w) : next_work(queue, w); ++count) {
      ASSERT_LT(w.begin, w.end);
      for (int g = w.begin; g < w.end; ++g) ++seen[static_cast<size_t>(w.tile) * s.groups + g];
      if (s.cluster > 1 || w.end - w.begin == s.groups) continue;
      const int split = w.tile - s.full_tiles, splits = num_split_tiles(s);
      if (w.begin == 0) {
        EXPECT_EQ(w.end, owned_groups(s));
        EXPECT_EQ(cta, plan.ctas - splits + split) << "helpers come before owners";
        continue;
      }
      EXPECT_LT(cta, plan.ctas - splits);
      helpers[split].insert(cta);
      EXPECT_LE((split + 1) * static_cast<size_t>(plan.rows) * plan.tile_m * 4, plan.partial_bytes());
    }
    EXPECT_GT(count, 0) << "CTA " << cta << " has no work";
  }
  for (int times : seen) ASSERT_EQ(times, 1);
  for (const auto& [split, ctas] : helpers) {
    EXPECT_EQ(*ctas.begin(), first_contributor(s, split));
    EXPECT_EQ(*ctas.rbegin(), last_contributor(s, split));
    EXPECT_EQ(static_cast<int>(ctas.size()), last_contributor(s, split) - first_contributor(s, split) + 1);
  }
  if (s.range_groups > 0) {
    EXPECT_EQ(static_cast<int>(helpers.size()), num_split_tiles(s)) << "an owner would wait for nobody";
  }
}

TEST(GemmPlan, EveryGroupOfEveryTileOnce) {
  int pair_tails = 0;
  for (const int m : {9, 16, 17, 33, 64, 200, 257, 1024, 4096})
    for (const auto& [n, k] :
         {std::pair{16, 128}, {4096, 4096}, {6144, 4096}, {1000, 8192}, {28672, 4096}, {8192, 28672}})
      for (const int sms : {1, 7, 78, 132}) {
        const GemmProblem p{m, n, k, 0, GemmOutput::bf16};
        for (const int cluster : {2, 3, 8})
          if (sms == 132 && cluster <= k / kGroup) expect_exact_cover(p, cluster_plan(p, {128, 1}, cluster));
        for (const int cluster : {1, 2, 3})
          if (sms == 132 && 2 * cluster <= k / kGroup) expect_exact_cover(p, cluster_plan(p, {64, 1, 2}, cluster));
        for (const TileChoice& tile : w4ax_tiles_sm90())
          for (const bool split : {false, true})
            for (int per_sm = 1; tile.sides == 1 && per_sm <= tile.ctas_per_sm; ++per_sm)
              expect_exact_cover(p, tile_plan(p, tile, sms * per_sm, split));
        for (const TileChoice& tile : w4ax_tiles_sm90())
          if (has_pair_tail(p, tile, sms)) expect_exact_cover(p, pair_tail_plan(p, tile, sms)), ++pair_tails;
      }
  EXPECT_GT(pair_tails, 20);
}

TEST(GemmPlan, FewTokensTakeTheGemvOrSmallTiles) {
  const auto layout_of = [](int m, int n, int k) {
    const GemmPlan plan = plan_gemm_w4ax_sm90({m, n, k, 0, GemmOutput::bf16}, 132);
    EXPECT_LE(plan.ctas, 132 * 2) << to_string(plan);
    return plan.act_layout();
  };
  for (const int m : {1, 8, 9, kMaxGemvTokens}) {
    EXPECT_EQ(layout_of(m, 10240, 8192), ActLayout::fragments_sm90);
    EXPECT_EQ(layout_of(m, 4096, 4096), ActLayout::fragments_sm90);
    EXPECT_EQ(layout_of(m, 28672, 4096), ActLayout::tiles_sm90);
  }
  EXPECT_EQ(layout_of(8, 6144, 4096), ActLayout::fragments_sm90);
  EXPECT_EQ(layout_of(kMaxGemvTokens, 6144, 4096), ActLayout::tiles_sm90);
  EXPECT_EQ(layout_of(kMaxGemvTokens + 1, 4096, 4096), ActLayout::tiles_sm90);
  for (const int m : {1, kMaxGemvTokens, kMaxGemvTokens + 1})
    EXPECT_EQ(plan_gemm_w8a8_sm90({m, 4096, 4096, 0, GemmOutput::bf16}, 132).tile_m == 0, m <= kMaxGemvTokens);
}

TEST(GemmPlan, OnlyLoneGemvsBehindQuantizeActAreSpread) {
  const auto plan = [](int n, int k, Front front) {
    return plan_gemm_w4ax_sm90({8, n, k, 0, GemmOutput::bf16}, 132, front);
  };
  for (const Front front : {Front::quantize_act, Front::gemm}) {
    EXPECT_EQ(plan(4096, 4096, front).is_spread, front == Front::quantize_act);
    EXPECT_TRUE(plan(4096, 4096, front).is_lone);
    EXPECT_FALSE(plan(10240, 8192, front).is_lone);
    EXPECT_FALSE(plan(10240, 8192, front).is_spread);
    EXPECT_EQ(plan(4096, 4096, front).ctas, plan(4096, 4096, Front::gemm).ctas);
  }
}

TEST(GemmPlan, GemvPassesCoverStripsOnceAndFitTheirSlots) {
  for (const int n : {1, 64, 300, 2117, 4096, 6144, 10240, 28672, 128256})
    for (const int ctas : {1, 3, 128, 132, 264})
      for (const int ring_units : {53, 103, 106})
        for (const int most_warps : {8, 16}) {
          if (ctas > num_strips(n)) continue;
          const GemvShape g = gemv_shape(n, ctas, ring_units, most_warps, 19);
          EXPECT_LE(g.slots * g.slot_strips, ring_units);
          EXPECT_LE(g.warps, most_warps);
          EXPECT_EQ(g.slots % g.warps, 0);
          EXPECT_GE(g.slots, 2 * g.warps);
          EXPECT_GE(g.window, 1);
          EXPECT_LE(g.window, g.warps);
          int next = 0;
          for (int cta = 0; cta < ctas; ++cta)
            for (int pass = 0; pass < g.passes; ++pass) {
              const PassStrips strips = pass_strips(g, cta, pass);
              EXPECT_EQ(strips.first, next);
              EXPECT_LE(strips.count, std::min(g.slot_strips, kPassStrips));
              next = strips.first + strips.count;
            }
          EXPECT_EQ(next, num_strips(n));
        }
}

TEST(Layouts, WeightBytesAreDistinctAndCovered) {
  constexpr int n = 40, k = 256;
  std::set<std::pair<size_t, bool>> nibbles;
  std::set<size_t> bytes8;
  for (int row = 0; row < n; ++row)
    for (int c = 0; c < k; ++c) {
      EXPECT_TRUE(nibbles.insert({weight_offset_w4(n, row, c), weight_is_high_w4(row)}).second);
      EXPECT_TRUE(bytes8.insert(weight_offset_w8(n, row, c)).second);
      EXPECT_LT(weight_offset_w4(n, row, c) % kUnitBytesW4, size_t{kUnitParamsW4});
      EXPECT_LT(weight_offset_w8(n, row, c), packed_weight_bytes(n, k, kUnitBytesW8));
    }
  std::set<size_t> params;
  for (int row = 0; row < n; ++row)
    for (int g = 0; g < k / kGroup; ++g) {
      const size_t at = weight_params_offset_w4(n, row, g);
      EXPECT_TRUE(params.insert(at).second);
      EXPECT_GE(at % kUnitBytesW4, size_t{kUnitParamsW4});
      EXPECT_LT(at, packed_weight_bytes(n, k, kUnitBytesW4));
    }
}

TEST(Layouts, ActivationBytesAreDistinct) {
  for (const ActLayout layout : {ActLayout::tiles_sm90, ActLayout::fragments_sm90})
    for (const int m : {1, 9, 16, 17, 70}) {
      std::set<size_t> bytes;
      for (int t = 0; t < m; ++t)
        for (int c = 0; c < 256; ++c) {
          EXPECT_TRUE(bytes.insert(activation_offset_sm90(layout, m, t, c)).second);
          EXPECT_LT(activation_offset_sm90(layout, m, t, c), static_cast<size_t>(padded_tokens(m)) * 256);
        }
    }
}

}  // namespace
}  // namespace comet::cuda
