// SPDX-License-Identifier: Apache-2.0
// The integer GEMMs on the CPU: choose a kernel once, cut a problem into tiles and panels, run them on the pool.
#pragma once

#include <span>
#include <string>

#include "base/thread_pool.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/memory.h"

namespace comet {

struct IntGemmKernel {
  const char* name;  // file == symbol == profiler line
  Isa isa;
  int max_tokens;           // of a tile
  const GemmTileFn* tiles;  // [max_tokens]
  size_t (*panel_bytes)(int k);
};

// Fastest first: the order is the whole policy.
std::span<const IntGemmKernel> w4ax_gemms();
std::span<const IntGemmKernel> w8a8_gemms();

// How one problem is cut. Tiles differ by at most one token; the results do not depend on any of this.
struct IntGemmPlan {
  int num_tiles = 0;
  int tile_tokens = 0;  // of the last tiles; the first num_large_tiles have one more
  int num_large_tiles = 0;
  int tiles_per_chunk = 0;  // tiles that one task takes against one panel
  int num_chunks = 0;
  int num_panels = 0;
  int64_t tasks_per_claim = 0;

  int tokens(int tile) const { return tile_tokens + (tile < num_large_tiles ? 1 : 0); }
  int first_token(int tile) const { return tile * tile_tokens + (tile < num_large_tiles ? tile : num_large_tiles); }
};

IntGemmPlan plan_int_gemm(const GemmProblem& problem, int max_tokens, size_t panel_bytes, int num_threads);
std::string to_string(const IntGemmPlan& plan);

void run_int_gemm(const IntGemmKernel& kernel, const GemmProblem& problem, const GemmArgs& args, ThreadPool& pool,
                  CpuScratch& scratch);

}  // namespace comet
