// SPDX-License-Identifier: Apache-2.0
// Every CUDA call goes through cuda_check: an error becomes an exception that names the call.
#pragma once

#include <cuda_runtime.h>

namespace comet::cuda {

// Throws Error: file:line, the call and CUDA's text.
void cuda_check(cudaError_t status, const char* call, const char* file, int line);

}  // namespace comet::cuda

#define COMET_CUDA_CHECK(call) ::comet::cuda::cuda_check((call), #call, __FILE__, __LINE__)
