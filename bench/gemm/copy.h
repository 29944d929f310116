// SPDX-License-Identifier: Apache-2.0
// A plain copy on the device: what memory gives a kernel that computes nothing.
#pragma once

#include <cuda_runtime.h>

namespace comet::cuda {

// Reads and writes `bytes` (a multiple of 16) each; both addresses are multiples of 16.
void launch_copy(void* to, const void* from, size_t bytes, int sms, cudaStream_t stream);

// The memory traffic of quantize_act on fp32 rows and nothing else: reads 4 * bytes and writes `bytes` (a multiple of
// 16), what stood there, to `kept`.
void launch_read_and_rewrite(void* kept, const void* from, size_t bytes, int sms, cudaStream_t stream);

}  // namespace comet::cuda
