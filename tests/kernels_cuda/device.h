// SPDX-License-Identifier: Apache-2.0
// Which GPU these tests run on; without one they skip.
#pragma once

#include <cuda_runtime.h>

namespace comet::cuda {

// Major compute capability of device 0; 0 without a GPU or a driver.
inline int compute_capability() {
  int count = 0, major = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  return major;
}
inline bool has_hopper() { return compute_capability() == 9; }
inline bool has_ampere_or_newer() { return compute_capability() >= 8; }

}  // namespace comet::cuda
