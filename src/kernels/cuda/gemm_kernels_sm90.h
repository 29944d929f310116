// SPDX-License-Identifier: Apache-2.0
// Device arguments and launch functions of the Hopper GEMMs; the kernels are one file per tile so that they build
// apart.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/tile/gemv_shape.h"
#include "kernels/cuda/tile/work.cuh"
#include "kernels/gemm.h"

namespace comet::cuda {

// What the copies ask for first comes first: each 64 bytes are a miss of the constant cache.
struct GemmKernelArgs {
  const uint8_t* weights = nullptr;  // units of layouts_sm90.h
  uint32_t group_bytes = 0;          // of them from a group to the next
  Schedule schedule;
  int m = 0, n = 0, num_int8_groups = 0;
  const int8_t* values = nullptr;    // tiles or, for gemv, mma fragments of layouts_sm90.h
  const uint32_t* sums = nullptr;    // [m]
  const float* scales = nullptr;     // [m]
  const int32_t* factors = nullptr;  // [m]
  const float* channel_scales = nullptr;
  const float* bias = nullptr;  // [n] or null
  void* d = nullptr;            // [m, n]
  GemmOutput output = GemmOutput::bf16;
  GemvShape gemv;                           // of the launch
  uint8_t unit_begin[kMostRanks + 1] = {};  // who finishes which of a side's units of 16 tokens: tile/sum_sm90.cuh
  uint8_t most_units = 0;                   // of a side of a CTA
  int32_t* partials = nullptr;   // of split tiles: [split tile][warpgroup][tile_m / 2][128], zero between launches
  uint32_t* counters = nullptr;  // [split tile][warpgroup], zero between launches
};

struct LaunchShape {
  int ctas = 0;
  cudaStream_t stream = nullptr;
  bool is_lone = false, is_spread = false;  // of a gemv, see GemmPlan
};

// One entry per (weights, tile_m, sides, rows): gemm_<scheme>_sm90_m<tile_m>.cu, .._sides.cu, .._rows<rows>.cu.
struct GemmTileKernel {
  int tile_m;
  int sides;
  int rows;
  void (*launch)(const GemmKernelArgs&, const LaunchShape&);
};

extern const GemmTileKernel kGemmW4axM32, kGemmW4axM32Sides, kGemmW4axM64, kGemmW4axM64Sides, kGemmW4axM64Rows192,
    kGemmW4axM96, kGemmW4axM128, kGemmW4axM128Rows192, kGemmW4axM192, kGemmW4axM256;
extern const GemmTileKernel kGemmW8a8M32, kGemmW8a8M128, kGemmW8a8M256;

// m <= kMaxGemvTokens.
void launch_gemv_w4ax(const GemmKernelArgs& args, const LaunchShape& shape);
void launch_gemv_w8a8(const GemmKernelArgs& args, const LaunchShape& shape);

}  // namespace comet::cuda
