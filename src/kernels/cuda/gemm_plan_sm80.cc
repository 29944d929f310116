// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_plan_sm80.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/cuda/gemm_kernels_sm80.h"

namespace comet::cuda {
namespace {

constexpr int kReservedShared = 1024;  // of each CTA, by the system
// A shorter run of steps costs more in filling the pipeline and adding up than it saves.
constexpr int kMinRun = 4;

int ceil_div(int64_t a, int64_t b) { return static_cast<int>((a + b - 1) / b); }

// The smallest tile that holds all tokens; above 64, tiles of 128 unless those compute over a quarter more tokens than
// tiles of 64 would.
int choose_tile_m(int m) {
  for (const int tile_m : {16, 32, 64})
    if (m <= tile_m) return tile_m;
  return round_up(m, 128) * 4 > round_up(m, 64) * 5 ? 64 : 128;
}

}  // namespace

const std::vector<TileChoiceSm80>& w4ax_tiles_sm80() {
  static const std::vector<TileChoiceSm80> tiles = [] {
    std::vector<TileChoiceSm80> list;
    for (const GemmTileKernelSm80* k : {&kGemmW4axSm80M16, &kGemmW4axSm80M32, &kGemmW4axSm80M64, &kGemmW4axSm80M128})
      list.push_back({k->tile_m, k->ctas_per_sm, k->shared_bytes});
    return list;
  }();
  return tiles;
}

size_t GemmPlanSm80::partial_bytes() const {
  return schedule.range_groups == 0 ? 0 : static_cast<size_t>(ctas) * 2 * kTileRowsSm80 * tile_m * sizeof(int32_t);
}

size_t GemmPlanSm80::counter_bytes() const {
  return schedule.range_groups == 0
             ? 0
             : static_cast<size_t>(schedule.tiles_m * schedule.tiles_n - schedule.full_tiles) * sizeof(uint32_t);
}

GemmPlanSm80 tile_plan_sm80(const GemmProblem& p, int bits2, int tile_m, int num_ctas, bool split) {
  GemmPlanSm80 plan;
  plan.tile_m = tile_m;
  plan.steps = make_steps_sm80(p.k, p.num_int8_groups, bits2);
  Schedule& s = plan.schedule;
  s.tiles_m = ceil_div(p.m, tile_m), s.tiles_n = ceil_div(p.n, kTileRowsSm80), s.groups = plan.steps.total;
  s.helped_groups = s.groups;
  const int tiles = s.tiles_m * s.tiles_n;
  if (!split || tiles % num_ctas == 0) {
    s.full_tiles = tiles;
    plan.ctas = std::min(tiles, num_ctas);
    return plan;
  }
  s.full_tiles = tiles / num_ctas * num_ctas;
  const int rest = (tiles - s.full_tiles) * s.groups;
  s.range_groups = std::max(ceil_div(rest, num_ctas), std::min(kMinRun, s.groups));
  plan.ctas = s.full_tiles > 0 ? num_ctas : ceil_div(rest, s.range_groups);
  return plan;
}

GemmPlanSm80 plan_gemm_w4ax_sm80(const GemmProblem& p, int bits2, const DeviceSm80& device) {
  const int tile_m = choose_tile_m(p.m);
  int ctas_per_sm = 1;
  for (const TileChoiceSm80& t : w4ax_tiles_sm80())
    if (t.tile_m == tile_m)
      ctas_per_sm = std::clamp(device.shared_bytes / (t.shared_bytes + kReservedShared), 1, t.ctas_per_sm);
  return tile_plan_sm80(p, bits2, tile_m, device.num_sms * ctas_per_sm, true);
}

std::string to_string(const GemmPlanSm80& plan) {
  const Schedule& s = plan.schedule;
  return fmt::format(
      "{} x 128 tiles: {} x {}, {} CTAs, {} whole, {} split in runs of {} of {} steps ({} int8, {} zero)", plan.tile_m,
      int{s.tiles_m}, s.tiles_n, plan.ctas, s.full_tiles, s.tiles_m * s.tiles_n - s.full_tiles, int{s.range_groups},
      s.groups, plan.steps.int8_steps, plan.steps.zero_steps);
}

}  // namespace comet::cuda
