// SPDX-License-Identifier: Apache-2.0
// What stands in front of a 16-bit GEMM: RMSNorm of fp32 rows to fp16, for the baseline of the fused path.
#pragma once

#include <cuda_runtime.h>

namespace comet::cuda {

constexpr int kMostNormChannels = 32768;

struct RmsNormF16Args {
  const float* x;        // [m, k]; 16-byte aligned, as are the others
  const uint16_t* gain;  // bf16 [k]
  void* y;               // fp16 [m, k]: (x / sqrt(mean(x^2) + eps)) * gain
  int m, k;              // k: a multiple of 4, at most kMostNormChannels
  float eps;
};

// One pass over memory: the row stays in registers. `sms`: of the GPU.
void launch_rms_norm_f16(const RmsNormF16Args& args, int sms, cudaStream_t stream);

}  // namespace comet::cuda
