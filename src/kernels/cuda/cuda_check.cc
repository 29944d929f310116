// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_check.h"

#include "base/check.h"

namespace comet::cuda {

void cuda_check(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  throw Error(fmt::format("{}:{}: {}: {}", file, line, call, cudaGetErrorString(status)));
}

}  // namespace comet::cuda
