// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/ptx/barrier.cuh"

namespace comet::cuda::ptx {

inline uint32_t load_shared_u16(uint32_t address) {
  uint16_t v;
  std::memcpy(&v, shared_memory + address, 2);
  return v;
}
inline float load_shared_float(uint32_t address) {
  float v;
  std::memcpy(&v, shared_memory + address, 4);
  return v;
}
inline void prefetch_l2(const void*) {}

}  // namespace comet::cuda::ptx
