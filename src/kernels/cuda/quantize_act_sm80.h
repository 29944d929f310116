// SPDX-License-Identifier: Apache-2.0
// quantize_act_ax_sm80: source -> permute -> rotate -> two-region quantization -> the slabs of gemm_w4ax_sm80 in one
// pass, bit for bit the reference. For compute capability 8.0, 8.6 and 8.9; newer GPUs run it from compute_80 PTX.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "kernels/cuda/gemm_plan_sm80.h"
#include "kernels/quantize_act.h"

namespace comet::cuda {

// Writes, for out.layout = ActLayout::packed_sm80 and m rounded up to a multiple of 16 (padding tokens are zero):
//   out.values       packed_act_bytes_sm80 bytes: codes of 8 or 4 bits and the constants' steps, layouts_sm80.h
//   out.multipliers  [k / 128][m padded]
//   out.scales, out.region1_factors, out.sums   [m]
//   out.group_sums   [m, k / 128], where it is not null; the GEMM reads none
// Throws Error for another layout and for pieces that are null. Asynchronous on the stream.
void quantize_act_ax_sm80(const QuantizeActProblem& p, const QuantizeActArgs& args, cudaStream_t stream);

// Which kernel takes a row. picked: f32 and bf16, normed or not, up to 64 groups; silu: SiLU-mul in its order, up to
// 224 groups; any: all others.
enum class QuantizeRowsSm80 : uint8_t { any, picked, silu };

// The most threads of a CTA: what registers allow. silu: a row of 28,672 channels has two groups a lane.
constexpr int kAnyThreadsSm80 = 768, kPickedThreadsSm80 = 512, kSiluThreadsSm80 = 896;

struct QuantizePlanSm80 {
  QuantizeRowsSm80 rows = QuantizeRowsSm80::any;
  int units = 0;           // groups of a lane; any: 0, as many as it takes
  int stages = 0;          // picked: rows in shared memory
  bool is_staged = false;  // any: the row lies in shared memory
  int threads = 0, ctas = 0, shared_bytes = 0;
};

// A pure function; device.shared_bytes is an SM's. is_aligned: x begins at a multiple of 16 bytes.
QuantizePlanSm80 plan_quantize_act_sm80(const QuantizeActProblem& p, bool is_permuted, bool is_aligned,
                                        const DeviceSm80& device);
std::string to_string(const QuantizePlanSm80& plan);

// Of a stage of picked rows: a row and 16 bytes of zeros.
constexpr int picked_row_bytes(const QuantizeActProblem& p) {
  return p.format.k_in * (p.source == ActSource::bf16 ? 2 : 4) + 16;
}

void launch_quantize_act_ax_sm80(const QuantizeActProblem& p, const QuantizeActArgs& args, const QuantizePlanSm80& plan,
                                 cudaStream_t stream);

}  // namespace comet::cuda
