// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "kernels/cuda/layouts_sm90.h"

namespace comet::cuda {
namespace {

constexpr int kRows = 128;  // rows of a tile
constexpr int kGemvCtasPerSmHost = 2;
constexpr int kMostTilesM = 8;  // token tiles: beyond, only the largest is worth a try
constexpr int kPartGroups = 2;  // what leaving a part of a split tile takes, in groups

int ceil_div(int64_t a, int64_t b) { return static_cast<int>((a + b - 1) / b); }

Schedule tiles_of(const GemmProblem& p, int tile_m) {
  Schedule s;
  s.tiles_m = ceil_div(p.m, tile_m), s.tiles_n = ceil_div(p.n, kRows), s.groups = p.k / kGroup;
  return s;
}

}  // namespace

size_t GemmPlan::partial_bytes() const {
  return schedule.range_groups == 0 ? 0
                                    : static_cast<size_t>(num_split_tiles(schedule)) * kRows * tile_m * sizeof(int32_t);
}

size_t GemmPlan::counter_bytes() const {
  return schedule.range_groups == 0 ? 0 : static_cast<size_t>(num_split_tiles(schedule)) * 8;
}

const std::vector<TileChoice>& w4ax_tiles_sm90() {
  static const std::vector<TileChoice> tiles = {{32, 2}, {32, 1, 2}, {64, 2},  {64, 1, 2},
                                                {96, 1}, {128, 1},   {192, 1}, {256, 1}};
  return tiles;
}

const std::vector<TileChoice>& w8a8_tiles_sm90() {
  static const std::vector<TileChoice> tiles = {{32, 1}, {128, 1}, {256, 1}};
  return tiles;
}

GemmPlan tile_plan(const GemmProblem& p, TileChoice tile, int num_ctas, bool split) {
  COMET_CHECK(tile.sides == 1, "tiles of two sides are dealt by cluster_plan");
  GemmPlan plan;
  plan.tile_m = tile.tile_m;
  plan.schedule = tiles_of(p, tile.tile_m);
  Schedule& s = plan.schedule;
  const int tiles = s.tiles_m * s.tiles_n, rest = tiles % num_ctas, helpers = num_ctas - rest;
  if (!split || rest == 0 || s.groups == 1) {
    s.full_tiles = tiles;
    plan.ctas = std::min(tiles, num_ctas);
    return plan;
  }
  s.full_tiles = tiles - rest;
  int best = std::numeric_limits<int>::max();
  for (int owned = 1; owned < s.groups; ++owned) {
    const int helped = s.groups - owned, range = ceil_div(rest * helped, helpers);
    const int parts = ceil_div(range, helped) + (range % helped != 0 ? 1 : 0);
    const int longest = std::max(owned, range + kPartGroups * parts);
    if (longest < best) best = longest, s.owned_groups = owned, s.range_groups = range;
  }
  const int busy = ceil_div(rest * helped_groups(s), s.range_groups);  // helpers
  plan.ctas = s.full_tiles > 0 ? num_ctas : rest + busy;
  return plan;
}

GemmPlan cluster_plan(const GemmProblem& p, TileChoice tile, int cluster) {
  COMET_CHECK(cluster >= 3 - tile.sides && cluster <= max_cluster(tile.tile_m, tile.sides) &&
                  cluster * tile.sides <= p.k / kGroup,
              "cluster of {} for tiles of {} on {} sides and {} groups", cluster, tile.tile_m, tile.sides,
              p.k / kGroup);
  GemmPlan plan;
  plan.tile_m = tile.tile_m, plan.sides = tile.sides;
  plan.schedule = tiles_of(p, tile.tile_m);
  plan.schedule.cluster = cluster;
  if (cluster == 1) plan.schedule.full_tiles = plan.schedule.tiles_m * plan.schedule.tiles_n;
  plan.ctas = plan.schedule.tiles_m * plan.schedule.tiles_n * cluster;
  return plan;
}

GemmPlan gemv_plan(const GemmProblem& p, int max_ctas) {
  GemmPlan plan;
  const int strips = num_strips(p.n), each = std::max(2, ceil_div(strips, max_ctas));
  plan.ctas = ceil_div(strips, each);
  plan.schedule.groups = p.k / kGroup;
  return plan;
}

namespace {

// Microseconds of one stage (128 rows x 128 k of a tile) when one CTA, or two, run on an SM; of a launch; of an
// epilogue token; of a split tile's sum, of a cluster's and of one over two sides. Fitted to
// docs/results/gemm_plans_h200.json by tools/fit_gemm_plan.py.
struct StageCost {
  int tile_m, sides;
  double alone, paired;
};
constexpr StageCost kStageCosts[] = {{32, 1, 0.2227, 0.3436}, {32, 2, 0.1549, 0.0}, {64, 1, 0.2722, 0.4351},
                                     {64, 2, 0.2016, 0.0},    {96, 1, 0.2753, 0.0}, {128, 1, 0.3388, 0.0},
                                     {192, 1, 0.4609, 0.0},   {256, 1, 0.623, 0.0}};
constexpr double kLaunchUs = 1.478, kEpilogueTokenUs = 0.01376;
constexpr double kPartUs = 1.064, kAddTokenUs = 0.00201, kLeaveTokenUs = 0.006902, kSplitStage = 1.314;
constexpr double kClusterUs = 0.8227, kSidesUs = 1.067, kClusterCtaUs = 0.5025, kClusterTokenUs = 0.01087;
constexpr double kTokenByteWeight = 0.09449;  // a token byte, from L2, against a weight byte
constexpr double kBytesPerUs = 4.1e6;
// Clusters of three or more leave some SMs of a GPC over: above this share of the machine they take a second round.
constexpr double kClusterShare = 0.82;

double stage_us(const GemmPlan& plan, int num_sms) {
  for (const StageCost& c : kStageCosts)
    if (c.tile_m == plan.tile_m && c.sides == plan.sides)
      return c.paired > 0.0 && plan.ctas > num_sms ? c.paired : c.alone;
  throw Error(fmt::format("no cost of a tile of {} tokens", plan.tile_m));
}

// The longest any CTA computes.
double busiest_cta_us(const GemmPlan& plan, int num_sms) {
  const Schedule& s = plan.schedule;
  const double stage = stage_us(plan, num_sms), epilogue = kEpilogueTokenUs * plan.tile_m;
  if (s.cluster > 1 || plan.sides > 1)
    return ceil_div(s.groups, s.cluster) * stage + (plan.sides > 1 ? kSidesUs : kClusterUs) +
           kClusterCtaUs * s.cluster + kClusterTokenUs * plan.tile_m * (s.cluster - 1) / s.cluster +
           epilogue / std::min(s.cluster * plan.sides, plan.tile_m / 16);
  double us = ceil_div(s.full_tiles, plan.ctas) * (s.groups * stage + epilogue);
  if (s.range_groups > 0) {
    const int parts = ceil_div(s.range_groups, helped_groups(s));  // that a helper leaves
    const double owner = s.owned_groups * stage, adds = kPartUs + kAddTokenUs * plan.tile_m + epilogue;
    const double helper = s.range_groups * stage + (kPartUs + kLeaveTokenUs * plan.tile_m) * parts;
    if (s.full_tiles > 0)  // helpers have long left their parts
      us += std::max(owner + adds, helper) * kSplitStage;
    else
      us += std::max(owner, helper) * kSplitStage + adds;
  }
  return us;
}

}  // namespace

double predicted_us(const GemmProblem& p, const GemmPlan& plan, int num_sms, double weight_bytes) {
  if (plan.tile_m == 0) return 2.0 + weight_bytes / kBytesPerUs;
  const double token_bytes = static_cast<double>(plan.schedule.tiles_n) * p.m * p.k;  // read once for each row tile
  const double memory_us = (weight_bytes + kTokenByteWeight * token_bytes) / kBytesPerUs;
  const double busy_us = busiest_cta_us(plan, num_sms);
  return kLaunchUs +
         std::pow(std::pow(busy_us, 4) + std::pow(memory_us, 4), 0.25);  // the larger, a bit more where near
}

std::vector<GemmPlan> candidate_plans(const GemmProblem& p, const std::vector<TileChoice>& tiles, int num_sms) {
  std::vector<GemmPlan> plans;
  bool is_covered = false;  // by a smaller tile: one twice as large as the tokens is not worth a try
  for (const TileChoice& tile : tiles) {
    if (is_covered && tile.tile_m >= 2 * padded_tokens(p.m)) break;
    is_covered = is_covered || tile.tile_m >= p.m;
    if (p.m > kMostTilesM * tile.tile_m && tile.tile_m < tiles.back().tile_m) continue;
    if (tile.sides == 1)
      for (const bool split : {false, true})
        for (int per_sm = 1; per_sm <= tile.ctas_per_sm; ++per_sm)
          plans.push_back(tile_plan(p, tile, num_sms * per_sm, split));
    const Schedule s = tiles_of(p, tile.tile_m);
    const int most = std::min(max_cluster(tile.tile_m, tile.sides), s.groups / tile.sides);
    for (int cluster = 3 - tile.sides; cluster <= most; ++cluster) {
      const double room = num_sms * tile.ctas_per_sm * (cluster > 2 ? kClusterShare : 1.0);
      if (static_cast<double>(s.tiles_m) * s.tiles_n * cluster <= room) plans.push_back(cluster_plan(p, tile, cluster));
    }
  }
  return plans;
}

namespace {

GemmPlan best_plan(const GemmProblem& p, const std::vector<TileChoice>& tiles, int num_sms, int unit_bytes) {
  const double weight_bytes = static_cast<double>(packed_weight_bytes(p.n, p.k, unit_bytes));
  if (p.m <= kMaxGemvTokens) return gemv_plan(p, kGemvCtasPerSmHost * num_sms);
  GemmPlan best;
  double best_us = std::numeric_limits<double>::infinity();
  for (const GemmPlan& plan : candidate_plans(p, tiles, num_sms)) {
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
  if (plan.tile_m == 0) return fmt::format("gemv, {} CTAs", plan.ctas);
  const int tiles = s.tiles_m * s.tiles_n;
  if (s.cluster > 1 || plan.sides > 1)
    return fmt::format("{} x 128 tiles: {} x {}, clusters of {} CTAs of {} sides, {} groups", plan.tile_m, s.tiles_m,
                       s.tiles_n, s.cluster, plan.sides, s.groups);
  return fmt::format("{} x 128 tiles: {} x {}, {} CTAs, {} whole, {} split at {} of {} groups, rest in runs of {}",
                     plan.tile_m, s.tiles_m, s.tiles_n, plan.ctas, s.full_tiles, tiles - s.full_tiles, s.owned_groups,
                     s.groups, s.range_groups);
}

}  // namespace comet::cuda
