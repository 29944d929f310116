// SPDX-License-Identifier: Apache-2.0
// How gemm_w4ax_sm80 deals its steps: a pure function of shapes and the device's size.
#pragma once

#include <string>
#include <vector>

#include "kernels/cuda/layouts_sm80.h"
#include "kernels/cuda/tile/work.cuh"
#include "kernels/gemm.h"

namespace comet::cuda {

struct DeviceSm80 {
  int num_sms = 0;
  int shared_bytes = 0;  // of an SM
};

struct GemmPlanSm80 {
  int tile_m = 0;  // tokens of a tile
  int ctas = 0;
  StepsSm80 steps;
  Schedule schedule;  // its groups are steps, which cost the same whatever their precision

  size_t partial_bytes() const;  // workspace for split tiles
  size_t counter_bytes() const;  // zero before the first launch; every launch leaves them zero
};

// The token tiles that are built: CTAs that fit an SM by their registers, and bytes of shared memory of a CTA.
struct TileChoiceSm80 {
  int tile_m = 0, ctas_per_sm = 1, shared_bytes = 0;
};
const std::vector<TileChoiceSm80>& w4ax_tiles_sm80();

// Tiles dealt whole, except that with split the last, incomplete wave is cut along k into equal numbers of steps (all
// of it where there is one only). bits2: codes of region 2.
GemmPlanSm80 tile_plan_sm80(const GemmProblem& p, int bits2, int tile_m, int num_ctas, bool split);

GemmPlanSm80 plan_gemm_w4ax_sm80(const GemmProblem& p, int bits2, const DeviceSm80& device);

std::string to_string(const GemmPlanSm80& plan);

}  // namespace comet::cuda
