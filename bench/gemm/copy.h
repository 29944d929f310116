// SPDX-License-Identifier: Apache-2.0
// A plain copy on the device: what memory gives a kernel that computes nothing.
#pragma once

#include <cuda_runtime.h>

namespace comet::cuda {

// Reads and writes `bytes` (a multiple of 16) each; both addresses are multiples of 16.
void launch_copy(void* to, const void* from, size_t bytes, int sms, cudaStream_t stream);

}  // namespace comet::cuda
