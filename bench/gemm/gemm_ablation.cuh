// SPDX-License-Identifier: Apache-2.0
// The kernel of every ablation, and its launch: gemm_w4ax_sm90 with another Weights.
#pragma once

#include <stdexcept>

#include "bench/gemm/gemm_ablation.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tile/gemm_sm90.cuh"

namespace comet::cuda {

// Only what the bench asks for, bf16 without bias, n a multiple of 8: half of the time to compile. (Device code of a
// file is not linked with that of others, which keep theirs.)
template <>
template <>
__device__ __forceinline__ void Epilogue<true, 64>::run<4>(const int32_t (&acc)[32], int units,
                                                           uint32_t& toggle) const {
  run_rows_bf16<4, false>(acc, units, toggle);
}
template <>
template <>
__device__ __forceinline__ void Epilogue<true, 64>::run<2>(const int32_t (&acc)[32], int units,
                                                           uint32_t& toggle) const {
  run_rows_bf16<2, false>(acc, units, toggle);
}
template <>
template <>
__device__ __forceinline__ void Epilogue<true, 128>::run<8>(const int32_t (&acc)[64], int units,
                                                            uint32_t& toggle) const {
  run_rows_bf16<8, false>(acc, units, toggle);
}
template <>
template <>
__device__ __forceinline__ void Epilogue<true, 128>::run<4>(const int32_t (&acc)[64], int units,
                                                            uint32_t& toggle) const {
  run_rows_bf16<4, false>(acc, units, toggle);
}
template <>
template <>
__device__ __forceinline__ void Epilogue<true, 256>::run<16>(const int32_t (&acc)[128], int units,
                                                             uint32_t& toggle) const {
  run_rows_bf16<16, false>(acc, units, toggle);
}
template <>
template <>
__device__ __forceinline__ void Epilogue<true, 256>::run<8>(const int32_t (&acc)[128], int units,
                                                            uint32_t& toggle) const {
  run_rows_bf16<8, false>(acc, units, toggle);
}

// As in gemm_w4ax_sm90_m*.cu.
constexpr int product_stages(int tile_m, int sides) { return tile_m == 128 ? 4 : 5 * sides; }
constexpr int product_ctas_per_sm(int tile_m, int sides) { return tile_m == 64 && sides == 1 ? 2 : 1; }

template <class Weights, int kTileM, int kStages, int kSides>
__global__ void __launch_bounds__(gemm_threads(kTileM, kSides, kTileRows), product_ctas_per_sm(kTileM, kSides))
    gemm_w4ax_ablation(const __grid_constant__ GemmKernelArgs args) {
  gemm_sm90<Weights, kTileM, kStages, kSides, kTileRows>(args);
}

template <class Weights, int kTileM, int kSides, bool kOneStage>
void launch_ablation_tile(const GemmKernelArgs& args, const LaunchShape& shape) {
  constexpr int kStages = kOneStage ? kSides : product_stages(kTileM, kSides);
  constexpr int kShared = GemmShared<Weights, kTileM, kStages, kSides, kTileRows>::kBytes;
  static_assert((kShared + 1024) * product_ctas_per_sm(kTileM, kSides) <= 228 * 1024, "CTAs do not fit an SM");
  auto* kernel = gemm_w4ax_ablation<Weights, kTileM, kStages, kSides>;
  static const bool allowed = (allow_shared_bytes(kernel, kShared), true);
  static_cast<void>(allowed);
  launch_dependent(kernel,
                   {shape.ctas, gemm_threads(kTileM, kSides, kTileRows), kShared, shape.stream, args.schedule.cluster},
                   args);
}

// kOneStage: a ring of one stage a side instead of the product's.
template <class Weights, bool kOneStage = false>
void launch_ablation(const GemmKernelArgs& args, const GemmPlan& plan, const LaunchShape& shape) {
  switch (plan.tile_m * 10 + plan.sides) {
    case 641: return launch_ablation_tile<Weights, 64, 1, kOneStage>(args, shape);
    case 642: return launch_ablation_tile<Weights, 64, 2, kOneStage>(args, shape);
    case 1281: return launch_ablation_tile<Weights, 128, 1, kOneStage>(args, shape);
    case 2561: return launch_ablation_tile<Weights, 256, 1, kOneStage>(args, shape);
    default: throw std::logic_error("no ablation has " + to_string(plan));
  }
}

}  // namespace comet::cuda
