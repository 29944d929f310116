// SPDX-License-Identifier: Apache-2.0
// gemm_w4ax_sm80: operands packed on the device, problem + plan -> launch. For compute capability 8.0, 8.6 and 8.9;
// newer GPUs run it from compute_80 PTX, right but slow, since they have no INT4 tensor cores.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/gemm_plan_sm80.h"

namespace comet::cuda {

// Scratch of one stream's GEMMs, device memory. counters are zero between launches.
struct GemmWorkspaceSm80 {
  void* partials = nullptr;
  uint32_t* counters = nullptr;
};

// a in ActLayout::packed_sm80 for the plan's steps, b packed by pack_w4ax_sm80. Asynchronous on the stream.
void gemm_w4ax_sm80(const GemmProblem& p, const GemmArgs& args, const GemmPlanSm80& plan,
                    const GemmWorkspaceSm80& workspace, cudaStream_t stream);

// Canonical device arrays (see W4axWeights) -> packed_weight_bytes_sm80(n, k) bytes.
void pack_w4ax_sm80(const W4axWeights& device_weights, void* packed, cudaStream_t stream);

// Device arrays in ActLayout::rows -> packed.values (packed_act_bytes_sm80 bytes) and packed.multipliers ([k / 128]
// [m padded]); the arrays by token are shared.
void pack_acts_sm80(const QuantizedActs& rows, int m, const StepsSm80& steps, const QuantizedActs& packed,
                    cudaStream_t stream);

}  // namespace comet::cuda
