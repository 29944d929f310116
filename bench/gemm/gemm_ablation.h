// SPDX-License-Identifier: Apache-2.0
// gemm_w4ax_sm90 and gemv_w4ax_sm90 with one thing taken out at a time: the same bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/gemm_kernels_sm90.h"
#include "kernels/cuda/gemm_plan.h"
#include "quant/weights.h"

namespace comet::cuda {

// Whether there are kernels for it: gemv of one block of tokens, and the tiles of 128 rows that plans for LLaMA-3 take
// but of M = 32 and, at 8B o, 64.
inline bool has_ablations(int m, const GemmPlan& plan) {
  if (plan.tile_m == 0) return m <= 8;
  if (plan.rows != 128) return false;
  return plan.tile_m == 64 || (plan.sides == 1 && (plan.tile_m == 128 || plan.tile_m == 256));
}

// The group's weights are unpacked only when the products of the one before are over.
void launch_without_overlap(const GemmKernelArgs& args, const GemmPlan& plan, const LaunchShape& shape);
// That, and a ring of one stage a side: the copy, too, waits for the products.
void launch_without_pipeline(const GemmKernelArgs& args, const GemmPlan& plan, const LaunchShape& shape);
// Weights of pack_w4ax_plain.
void launch_without_layout(const GemmKernelArgs& args, const GemmPlan& plan, const LaunchShape& shape);
// One code at a time instead of four.
void launch_without_fast_conversion(const GemmKernelArgs& args, const GemmPlan& plan, const LaunchShape& shape);

// The same of gemv_w4ax_sm90, m <= 8; its warps do not overlap anything else.
void launch_gemv_without_pipeline(const GemmKernelArgs& args, const GemmPlan& plan, const LaunchShape& shape);
void launch_gemv_without_layout(const GemmKernelArgs& args, const GemmPlan& plan, const LaunchShape& shape);
void launch_gemv_without_fast_conversion(const GemmKernelArgs& args, const GemmPlan& plan, const LaunchShape& shape);

// Units of the same size and order as of layouts_sm90.h, their codes as in the checkpoint:
//   [16 rows]{64 bytes: code 2 i in the low half of byte i} | parameter byte of each row
// Canonical device arrays -> packed_weight_bytes(n, k, kUnitBytesW4) bytes.
void pack_w4ax_plain(const W4axWeights& device_weights, void* packed, cudaStream_t stream);

}  // namespace comet::cuda
