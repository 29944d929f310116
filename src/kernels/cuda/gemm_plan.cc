// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "kernels/cuda/layouts_sm90.h"

namespace comet::cuda {
namespace {

constexpr int kRows = 128;           // rows of a tile
constexpr int kMaxPassStripsHost = 4;

int ceil_div(int64_t a, int64_t b) { return static_cast<int>((a + b - 1) / b); }

Schedule tiles_of(const GemmProblem& p, int tile_m) {
  return {ceil_div(p.m, tile_m), ceil_div(p.n, kRows), p.k / kGroup, 0, 0};
}

}  // namespace

size_t GemmPlan::partial_bytes() const {
  return schedule.range_groups == 0 ? 0 : static_cast<size_t>(ctas) * 2 * kRows * tile_m * sizeof(int32_t);
}

size_t GemmPlan::counter_bytes() const {
  return schedule.range_groups == 0 ? 0 : static_cast<size_t>(schedule.tiles_m * schedule.tiles_n - schedule.full_tiles) * 8;
}

const std::vector<TileChoice>& w4ax_tiles_sm90() {
  static const std::vector<TileChoice> tiles = {{32, 2}, {64, 2}, {96, 1}, {128, 1}, {192, 1}, {256, 1}};
  return tiles;
}

const std::vector<TileChoice>& w8a8_tiles_sm90() {
  static const std::vector<TileChoice> tiles = {{32, 1}, {128, 1}, {256, 1}};
  return tiles;
}

GemmPlan tile_plan(const GemmProblem& p, TileChoice tile, int num_ctas, bool split) {
  GemmPlan plan;
  plan.tile_m = tile.tile_m;
  plan.schedule = tiles_of(p, tile.tile_m);
  Schedule& s = plan.schedule;
  const int tiles = s.tiles_m * s.tiles_n;
  if (!split || tiles % num_ctas == 0) {
    s.full_tiles = tiles;
    plan.ctas = std::min(tiles, num_ctas);
    return plan;
  }
  s.full_tiles = tiles / num_ctas * num_ctas;
  const int rest_groups = (tiles - s.full_tiles) * s.groups;
  s.range_groups = ceil_div(rest_groups, num_ctas);
  plan.ctas = s.full_tiles > 0 ? num_ctas : ceil_div(rest_groups, s.range_groups);
  return plan;
}

GemmPlan gemv_plan(const GemmProblem& p, int num_ctas) {
  GemmPlan plan;
  const int strips = num_strips(p.n);
  plan.ctas = std::min(strips, num_ctas);
  plan.schedule.groups = p.k / kGroup;
  const int most = ceil_div(strips, plan.ctas), passes = ceil_div(most, kMaxPassStripsHost);
  plan.strips_per_pass = ceil_div(most, passes);
  return plan;
}

double predicted_us(const GemmProblem& p, const GemmPlan& plan, int num_sms, double weight_bytes) {
  constexpr double kClocksPerUs = 1550.0, kBytesPerUs = 4.1e6;
  const Schedule& s = plan.schedule;
  if (plan.tile_m == 0) return 2.0 + weight_bytes / kBytesPerUs;
  const int per_sm = ceil_div(plan.ctas, num_sms);
  // A group of a tile: 4 tensor clocks a token and what the hand-over of a stage costs.
  const double group_clocks = 4.0 * plan.tile_m + 110.0;
  const double tile_clocks = 600.0 + 6.0 * plan.tile_m;  // epilogue
  const int whole = ceil_div(s.full_tiles, plan.ctas);
  double clocks = whole * (s.groups * group_clocks + tile_clocks);
  if (s.range_groups > 0) clocks += s.range_groups * group_clocks * 1.1 + 2.0 * tile_clocks + 1500.0 + 12.0 * plan.tile_m;
  const double compute_us = clocks * per_sm / kClocksPerUs;
  const double token_bytes = static_cast<double>(s.tiles_n) * p.m * p.k;  // from L2, once a row tile
  const double memory_us = weight_bytes / kBytesPerUs + token_bytes / 20e6;
  return 2.5 + std::max(compute_us, memory_us) + 0.15 * std::min(compute_us, memory_us);
}

namespace {

GemmPlan best_plan(const GemmProblem& p, const std::vector<TileChoice>& tiles, int num_sms, int unit_bytes) {
  const double weight_bytes = static_cast<double>(packed_weight_bytes(p.n, p.k, unit_bytes));
  if (p.m <= kMaxGemvTokens) return gemv_plan(p, num_sms);
  GemmPlan best;
  double best_us = std::numeric_limits<double>::infinity();
  for (const TileChoice& tile : tiles)
    for (const bool split : {false, true}) {
      const GemmPlan plan = tile_plan(p, tile, num_sms, split);
      const double us = predicted_us(p, plan, num_sms, weight_bytes);
      if (us < best_us) best = plan, best_us = us;
    }
  return best;
}

}  // namespace

GemmPlan plan_gemm_w4ax_sm90(const GemmProblem& p, int num_sms) {
  return best_plan(p, w4ax_tiles_sm90(), num_sms, kUnitBytesW4);
}

GemmPlan plan_gemm_w8a8_sm90(const GemmProblem& p, int num_sms) {
  return best_plan(p, w8a8_tiles_sm90(), num_sms, kUnitBytesW8);
}

std::string to_string(const GemmPlan& plan) {
  const Schedule& s = plan.schedule;
  if (plan.tile_m == 0) return fmt::format("gemv, {} CTAs, {} strips a pass", plan.ctas, plan.strips_per_pass);
  const int tiles = s.tiles_m * s.tiles_n;
  return fmt::format("{} x 128 tiles: {} x {}, {} CTAs, {} whole, {} split in runs of {} of {} groups", plan.tile_m, s.tiles_m,
                     s.tiles_n, plan.ctas, s.full_tiles, tiles - s.full_tiles, s.range_groups, s.groups);
}

}  // namespace comet::cuda
