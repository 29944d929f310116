// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "kernels/cuda/layouts_sm90.h"
#include "kernels/cuda/tile/gemv_shape.h"

namespace comet::cuda {
namespace {

constexpr int kGemvLoneGroups = 64;  // of four strips: up to here a CTA an SM is enough
constexpr int kMostTilesM = 8;       // token tiles: beyond, only the largest is worth a try
constexpr int kPartGroups = 2;       // what leaving a part of a split tile takes, in groups

int ceil_div(int64_t a, int64_t b) { return static_cast<int>((a + b - 1) / b); }

GemmPlan plan_of(const GemmProblem& p, TileChoice tile) {
  GemmPlan plan;
  plan.tile_m = tile.tile_m, plan.sides = tile.sides, plan.rows = tile.rows;
  Schedule& s = plan.schedule;
  s.tiles_m = ceil_div(p.m, tile.tile_m), s.tiles_n = ceil_div(p.n, tile.rows);
  s.groups = p.k / kGroup, s.helped_groups = s.groups;
  return plan;
}
int num_tiles(const Schedule& s) { return s.tiles_m * s.tiles_n; }

}  // namespace

size_t GemmPlan::partial_bytes() const {
  return schedule.range_groups == 0 ? 0
                                    : static_cast<size_t>(num_split_tiles(schedule)) * rows * tile_m * sizeof(int32_t);
}

size_t GemmPlan::counter_bytes() const {
  return schedule.range_groups == 0 ? 0
                                    : static_cast<size_t>(num_split_tiles(schedule)) * (rows / 64) * sizeof(uint32_t);
}

const std::vector<TileChoice>& w4ax_tiles_sm90() {
  static const std::vector<TileChoice> tiles = {{32, 2}, {32, 1, 2}, {64, 2},          {64, 1, 2}, {64, 1, 1, 192},
                                                {96, 1}, {128, 1},   {128, 1, 1, 192}, {192, 1},   {256, 1}};
  return tiles;
}

const std::vector<TileChoice>& w8a8_tiles_sm90() {
  static const std::vector<TileChoice> tiles = {{32, 1}, {128, 1}, {256, 1}};
  return tiles;
}

GemmPlan tile_plan(const GemmProblem& p, TileChoice tile, int num_ctas, bool split) {
  COMET_CHECK(tile.sides == 1, "tiles of two sides are dealt by cluster_plan");
  GemmPlan plan = plan_of(p, tile);
  Schedule& s = plan.schedule;
  const int tiles = num_tiles(s), rest = tiles % num_ctas, helpers = num_ctas - rest;
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
    if (longest < best) best = longest, s.helped_groups = helped, s.range_groups = range;
  }
  const int busy = ceil_div(rest * s.helped_groups, s.range_groups);  // helpers
  plan.ctas = s.full_tiles > 0 ? num_ctas : rest + busy;
  return plan;
}

GemmPlan cluster_plan(const GemmProblem& p, TileChoice tile, int cluster) {
  COMET_CHECK(cluster >= 3 - tile.sides && cluster <= max_cluster(tile.tile_m, tile.sides, tile.rows) &&
                  cluster * tile.sides <= p.k / kGroup,
              "cluster of {} for tiles of {} on {} sides and {} groups", cluster, tile.tile_m, tile.sides,
              p.k / kGroup);
  GemmPlan plan = plan_of(p, tile);
  plan.schedule.cluster = cluster;
  if (cluster == 1) plan.schedule.full_tiles = num_tiles(plan.schedule);
  plan.ctas = num_tiles(plan.schedule) * cluster;
  return plan;
}

bool has_pair_tail(const GemmProblem& p, TileChoice tile, int num_ctas) {
  const int tiles = num_tiles(plan_of(p, tile).schedule), pairs = num_ctas / 2,
            rest = pairs > 0 ? tiles % (2 * pairs) : 0;
  return tile.sides == 1 && rest > 0 && rest <= pairs && rest < tiles && p.k / kGroup >= 2;
}

GemmPlan pair_tail_plan(const GemmProblem& p, TileChoice tile, int num_ctas) {
  COMET_CHECK(has_pair_tail(p, tile, num_ctas), "no incomplete wave for pairs of {} CTAs", num_ctas);
  GemmPlan plan = plan_of(p, tile);
  plan.ctas = num_ctas / 2 * 2;
  plan.schedule.cluster = 2;
  plan.schedule.full_tiles = num_tiles(plan.schedule) / plan.ctas * plan.ctas;
  return plan;
}

GemmPlan gemv_plan(const GemmProblem& p, int num_sms, int per_sm) {
  GemmPlan plan;
  plan.is_lone = per_sm == 1;
  const int strips = num_strips(p.n), each = std::max(2, ceil_div(strips, num_sms * per_sm));
  plan.ctas = ceil_div(strips, each);
  plan.schedule.groups = p.k / kGroup;
  return plan;
}

namespace {

// Microseconds of one stage (a tile x 128 k) when one CTA, or two, run on an SM; of a launch; of an
// epilogue token; of a split tile's sum, of a cluster's and of one over two sides. Fitted to
// docs/results/gemm_plans_h200.json by tools/fit_gemm_plan.py.
struct StageCost {
  int tile_m, sides, rows;
  double alone, paired;
};
constexpr StageCost kStageCosts[] = {
    {32, 1, 128, 0.2385, 0.309}, {32, 2, 128, 0.167, 0.0},  {64, 1, 128, 0.2794, 0.5217}, {64, 2, 128, 0.197, 0.0},
    {64, 1, 192, 0.3772, 0.0},   {96, 1, 128, 0.2675, 0.0}, {128, 1, 128, 0.3339, 0.0},   {128, 1, 192, 0.5901, 0.0},
    {192, 1, 128, 0.4375, 0.0},  {256, 1, 128, 0.6252, 0.0}};
constexpr double kLaunchUs = 1.525, kEpilogueTokenUs = 0.01087;
constexpr double kPartUs = 1.349, kAddTokenUs = 0.004355, kLeaveTokenUs = 0.009441, kSplitStage = 1.438;
constexpr double kClusterUs = 0.8537, kSidesUs = 1.28, kClusterCtaUs = 0.368, kClusterTokenUs = 0.01447;
constexpr double kTokenByteWeight = 0.04864;  // a token byte, from L2, against a weight byte
constexpr double kBytesPerUs = 4.1e6;
// A gemv, on the scale of small tiles, which the model gives up to 1.5 us more than they take. Two blocks of tokens: a
// CTA an SM, and two.
constexpr double kGemvUs = 1.5, kGemvBytesPerUs = 3.75e6;
constexpr double kGemvTwoBlocksLoneUs = 3.9, kGemvTwoBlocksUs = 3.75, kGemvTwoBlocksBytesPerUs = 3.8e6;
constexpr double kLoneBehindGemmUs = -1.8;  // of two blocks, whose CTAs then come one by one
// Where power sets the clock, which long GEMMs feel more, tiles of 256 tokens are some 7% faster than others of equal
// speed on a cool GPU.
constexpr int kCoolTile = 256;
constexpr double kPowerShare = 0.06, kPowerUs = 60.0;
// Clusters of three or more leave some SMs of a GPC over: above this share of the machine they take a second round.
constexpr double kClusterShare = 0.82;

double stage_us(const GemmPlan& plan, int num_sms) {
  for (const StageCost& c : kStageCosts)
    if (c.tile_m == plan.tile_m && c.sides == plan.sides && c.rows == plan.rows)
      return c.paired > 0.0 && plan.ctas > num_sms ? c.paired : c.alone;
  throw Error(fmt::format("no cost of a tile of {} tokens and {} rows", plan.tile_m, plan.rows));
}

// The longest any CTA computes.
double busiest_cta_us(const GemmPlan& plan, int num_sms) {
  const Schedule& s = plan.schedule;
  const double stage = stage_us(plan, num_sms), epilogue = kEpilogueTokenUs * plan.tile_m;
  double us = plan.sides > 1 ? 0.0 : ceil_div(s.full_tiles, plan.ctas) * (s.groups * stage + epilogue);
  if (s.cluster > 1 || plan.sides > 1)
    return us + ceil_div(s.groups, s.cluster) * stage + (plan.sides > 1 ? kSidesUs : kClusterUs) +
           kClusterCtaUs * s.cluster + kClusterTokenUs * plan.tile_m * (s.cluster - 1) / s.cluster +
           epilogue / std::min(s.cluster * plan.sides, plan.tile_m / 16);
  if (s.range_groups > 0) {
    const int parts = ceil_div(s.range_groups, s.helped_groups);  // that a helper leaves
    const double owner = owned_groups(s) * stage, adds = kPartUs + kAddTokenUs * plan.tile_m + epilogue;
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
  if (plan.tile_m == 0 && p.m <= kBlockTokens) return kGemvUs + weight_bytes / kGemvBytesPerUs;
  if (plan.tile_m == 0)
    return (plan.ctas <= num_sms ? kGemvTwoBlocksLoneUs : kGemvTwoBlocksUs) + weight_bytes / kGemvTwoBlocksBytesPerUs;
  const double token_bytes = static_cast<double>(plan.schedule.tiles_n) * p.m * p.k;  // read once for each row tile
  const double memory_us = (weight_bytes + kTokenByteWeight * token_bytes) / kBytesPerUs;
  double busy_us = busiest_cta_us(plan, num_sms);
  if (plan.tile_m < kCoolTile) busy_us *= 1.0 + kPowerShare * std::min(1.0, busy_us / kPowerUs);
  return kLaunchUs +
         std::pow(std::pow(busy_us, 4) + std::pow(memory_us, 4), 0.25);  // the larger, a bit more where near
}

std::vector<GemmPlan> candidate_plans(const GemmProblem& p, const std::vector<TileChoice>& tiles, int num_sms) {
  std::vector<GemmPlan> plans;
  bool is_covered = false;  // by a smaller tile: one twice as large as the tokens is not worth a try
  for (const TileChoice& tile : tiles) {
    if (is_covered && tile.tile_m >= 2 * padded_tokens(p.m) && tile.tile_m > tiles.front().tile_m) break;
    is_covered = is_covered || tile.tile_m >= p.m;
    if (p.m > kMostTilesM * tile.tile_m && tile.tile_m < tiles.back().tile_m) continue;
    if (tile.sides == 1)
      for (const bool split : {false, true})
        for (int per_sm = 1; per_sm <= tile.ctas_per_sm; ++per_sm)
          plans.push_back(tile_plan(p, tile, num_sms * per_sm, split));
    for (int per_sm = 1; per_sm <= tile.ctas_per_sm; ++per_sm)
      if (has_pair_tail(p, tile, num_sms * per_sm)) plans.push_back(pair_tail_plan(p, tile, num_sms * per_sm));
    const Schedule s = plan_of(p, tile).schedule;
    const int most = std::min(max_cluster(tile.tile_m, tile.sides, tile.rows), s.groups / tile.sides);
    for (int cluster = 3 - tile.sides; cluster <= most; ++cluster) {
      const double room = num_sms * tile.ctas_per_sm * (cluster > 2 ? kClusterShare : 1.0);
      if (static_cast<double>(num_tiles(s)) * cluster <= room) plans.push_back(cluster_plan(p, tile, cluster));
    }
  }
  return plans;
}

namespace {

// A CTA an SM, whose other half is left to the next kernel's rings, where each has one pass of two or four strips and
// no more groups than its ring can run ahead of. Else two an SM.
GemmPlan best_gemv_plan(const GemmProblem& p, int num_sms, Front front) {
  GemmPlan lone = gemv_plan(p, num_sms, 1);
  lone.is_spread = front == Front::quantize_act;
  const int each = ceil_div(num_strips(p.n), lone.ctas), groups = lone.schedule.groups;
  if ((each == 2 && groups <= 2 * kGemvLoneGroups) || (each == kPassStrips && groups <= kGemvLoneGroups)) return lone;
  return gemv_plan(p, num_sms, kGemvCtasPerSm);
}

// has_small_tiles: up to kMaxGemvTokens tokens may take them, too.
GemmPlan best_plan(const GemmProblem& p, const std::vector<TileChoice>& tiles, int num_sms, Front front, int unit_bytes,
                   bool has_small_tiles) {
  const double weight_bytes = static_cast<double>(packed_weight_bytes(p.n, p.k, unit_bytes));
  GemmPlan best;
  double best_us = std::numeric_limits<double>::infinity();
  if (p.m <= kMaxGemvTokens) {
    best = best_gemv_plan(p, num_sms, front);
    if (!has_small_tiles) return best;
    best_us = predicted_us(p, best, num_sms, weight_bytes);
    if (front == Front::gemm && best.is_lone && p.m > kBlockTokens) best_us += kLoneBehindGemmUs;
  }
  for (const GemmPlan& plan : candidate_plans(p, tiles, num_sms)) {
    const double us = predicted_us(p, plan, num_sms, weight_bytes);
    if (us < best_us) best = plan, best_us = us;
  }
  return best;
}

}  // namespace

GemmPlan plan_gemm_w4ax_sm90(const GemmProblem& p, int num_sms, Front front) {
  return best_plan(p, w4ax_tiles_sm90(), num_sms, front, kUnitBytesW4, true);
}

GemmPlan plan_gemm_w8a8_sm90(const GemmProblem& p, int num_sms, Front front) {
  return best_plan(p, w8a8_tiles_sm90(), num_sms, front, kUnitBytesW8, false);
}

std::string to_string(const GemmPlan& plan) {
  const Schedule& s = plan.schedule;
  if (plan.tile_m == 0) return fmt::format("gemv, {} CTAs{}", plan.ctas, plan.is_spread ? ", spread" : "");
  const std::string tiles = fmt::format("{} x {} tiles: {} x {}", plan.tile_m, plan.rows, int{s.tiles_m}, s.tiles_n);
  const int rest = num_tiles(s) - s.full_tiles;
  if (s.cluster > 1 && s.full_tiles > 0)
    return fmt::format("{}, {} CTAs, {} whole, {} by clusters of {}", tiles, plan.ctas, s.full_tiles, rest,
                       int{s.cluster});
  if (s.cluster > 1 || plan.sides > 1)
    return fmt::format("{}, clusters of {} CTAs of {} sides, {} groups", tiles, int{s.cluster}, plan.sides, s.groups);
  return fmt::format("{}, {} CTAs, {} whole, {} split at {} of {} groups, rest in runs of {}", tiles, plan.ctas,
                     s.full_tiles, rest, owned_groups(s), s.groups, int{s.range_groups});
}

}  // namespace comet::cuda
