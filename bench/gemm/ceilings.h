// SPDX-License-Identifier: Apache-2.0
// The GPU that is measured, and what its memory and its tensor cores give at most.
#pragma once

#include <algorithm>

#include "bench/gemm/replay.h"
#include "bench/gemm/results.h"

namespace comet::cuda {

// GPU 0. Throws Unsupported where there is no driver, no GPU, or not a Hopper one.
cudaDeviceProp open_hopper();

// Bytes read and written a second by a copy of 1 GiB.
struct CopyRates {
  double kernel_tb_per_s = 0, memcpy_tb_per_s = 0;

  double best() const { return std::max(kernel_tb_per_s, memcpy_tb_per_s); }
};
CopyRates measure_copy(ReplayTimer& timer, int sms, cudaStream_t stream, int rounds);

// Names, driver and ceilings of the GPU.
gemm_bench::Machine describe(const cudaDeviceProp& device, double copy_tb_per_s);

}  // namespace comet::cuda
