// SPDX-License-Identifier: Apache-2.0
// Which Hopper kernel computes a GEMM and how its tiles are dealt: a pure function of shapes and the number of SMs.
#pragma once

#include <string>
#include <vector>

#include "kernels/cuda/tile/work.cuh"
#include "kernels/gemm.h"

namespace comet::cuda {

struct GemmPlan {
  int tile_m = 0;  // tokens of a tile; 0: the gemv
  int sides = 1;   // 2: a CTA has one tile, whose groups two sets of warps share
  int rows = 128;  // of a tile
  int ctas = 0;
  // Of a gemv: an SM gets one CTA of it when all start at once; spread: always, since no second one fits.
  bool is_lone = false, is_spread = false;
  Schedule schedule;  // gemv: only groups

  ActLayout act_layout() const { return tile_m == 0 ? ActLayout::fragments_sm90 : ActLayout::tiles_sm90; }
  size_t partial_bytes() const;  // both: of the workspace for split tiles
  size_t counter_bytes() const;
};

// The tiles that are built for a scheme, how many of their CTAs fit an SM, their sides and rows.
struct TileChoice {
  int tile_m = 0, ctas_per_sm = 1, sides = 1, rows = 128;
};
const std::vector<TileChoice>& w4ax_tiles_sm90();
const std::vector<TileChoice>& w8a8_tiles_sm90();

// Tiles dealt whole, except that with split the last, incomplete wave is cut along k (all of it where there is one
// only).
GemmPlan tile_plan(const GemmProblem& p, TileChoice tile, int num_ctas, bool split);
// One tile for each cluster of CTAs, 1 (of two sides) or 2 to max_cluster, which share k. Every side of a CTA has a
// group: cluster * sides <= k / 128.
GemmPlan cluster_plan(const GemmProblem& p, TileChoice tile, int cluster);
// Whole tiles, except that each tile of the last, incomplete wave is shared by a pair of CTAs: there are at most half
// as many as CTAs, and at least one whole wave (has_pair_tail).
bool has_pair_tail(const GemmProblem& p, TileChoice tile, int num_ctas);
GemmPlan pair_tail_plan(const GemmProblem& p, TileChoice tile, int num_ctas);
// CTAs of at least two strips of 16 rows each, as many as num_sms hold at most, one or two an SM.
GemmPlan gemv_plan(const GemmProblem& p, int num_sms, int per_sm);

// Every plan of tiles worth trying; benchmarks time all of them.
std::vector<GemmPlan> candidate_plans(const GemmProblem& p, const std::vector<TileChoice>& tiles, int num_sms);

// Microseconds that the plan is expected to take; compared between plans of a problem.
double predicted_us(const GemmProblem& p, const GemmPlan& plan, int num_sms, double weight_bytes);

// What comes in front of the GEMM on its stream. A quantize_act takes some SMs, and leaves the CTAs of a small GEMM
// behind it to come two by two on others; behind a GEMM they take its places one by one.
enum class Front { quantize_act, gemm };

GemmPlan plan_gemm_w4ax_sm90(const GemmProblem& p, int num_sms, Front front = Front::quantize_act);
GemmPlan plan_gemm_w8a8_sm90(const GemmProblem& p, int num_sms, Front front = Front::quantize_act);

std::string to_string(const GemmPlan& plan);

}  // namespace comet::cuda
