// SPDX-License-Identifier: Apache-2.0
// Device arguments and launch functions of gemm_w4ax_sm80; one file per token tile so that they build apart.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/layouts_sm80.h"
#include "kernels/cuda/tile/work.cuh"
#include "kernels/gemm.h"

namespace comet::cuda {

struct GemmKernelArgsSm80 {
  const uint8_t* weights = nullptr;      // layouts_sm80.h
  const int8_t* slabs = nullptr;         // layouts_sm80.h
  const uint8_t* multipliers = nullptr;  // [k / 128][m padded]
  const uint32_t* sums = nullptr;        // [m]
  const float* scales = nullptr;         // [m]
  const int32_t* factors = nullptr;      // [m]
  const float* channel_scales = nullptr;
  const float* bias = nullptr;  // [n] or null
  void* d = nullptr;            // [m, n]
  int m = 0, n = 0;
  GemmOutput output = GemmOutput::bf16;
  StepsSm80 steps;
  Schedule schedule;             // its groups are steps
  int4* partials = nullptr;      // split tiles: [2 * CTAs][tile_m][128 rows]
  uint32_t* counters = nullptr;  // split tiles: [split tiles], zero between launches
};

// One entry per tile_m: gemm_w4ax_sm80_m<tile_m>.cu.
struct GemmTileKernelSm80 {
  int tile_m;
  int ctas_per_sm;   // that registers allow
  int shared_bytes;  // of a CTA
  void (*launch)(const GemmKernelArgsSm80&, int ctas, cudaStream_t stream);
};

extern const GemmTileKernelSm80 kGemmW4axSm80M16, kGemmW4axSm80M32, kGemmW4axSm80M64, kGemmW4axSm80M128;

}  // namespace comet::cuda
