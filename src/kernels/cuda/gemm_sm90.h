// SPDX-License-Identifier: Apache-2.0
// gemm_w4ax_sm90, gemm_w8a8_sm90: weights packed on the device, problem + plan -> launch.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/gemm_plan.h"

namespace comet::cuda {

// Scratch of one stream's GEMMs, device memory; zero before the first launch, and every launch leaves it so.
struct GemmWorkspace {
  void* partials = nullptr;
  uint32_t* counters = nullptr;
};

// a in plan.act_layout(), b packed by pack_w4ax_sm90 / pack_w8_sm90. Asynchronous on the stream; may start before
// the kernel in front of it has ended, but reads and writes nothing but weights before.
void gemm_w4ax_sm90(const GemmProblem& p, const GemmArgs& args, const GemmPlan& plan, const GemmWorkspace& workspace,
                    cudaStream_t stream);
void gemm_w8a8_sm90(const GemmProblem& p, const GemmArgs& args, const GemmPlan& plan, const GemmWorkspace& workspace,
                    cudaStream_t stream);

// What the kernels get; for launches of them other than these.
struct GemmKernelArgs;
struct LaunchShape;
LaunchShape launch_shape(const GemmPlan& plan, cudaStream_t stream);
GemmKernelArgs gemm_kernel_args(const GemmProblem& p, const GemmArgs& args, int unit_bytes, const GemmPlan& plan,
                                const GemmWorkspace& workspace);

// Canonical device arrays (see W4axWeights, W8Weights) -> packed_weight_bytes(n, k, unit) bytes.
void pack_w4ax_sm90(const W4axWeights& device_weights, void* packed, cudaStream_t stream);
void pack_w8_sm90(const W8Weights& device_weights, void* packed, cudaStream_t stream);

}  // namespace comet::cuda
