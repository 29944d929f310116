// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/ptx/barrier.cuh"

namespace comet::cuda::ptx {

inline uint32_t load_shared_u16(uint32_t address) {
  uint16_t v;
  std::memcpy(&v, shared_memory + address, 2);
  return v;
}
inline uint32_t load_shared_u32(uint32_t address) {
  uint32_t v;
  std::memcpy(&v, shared_memory + address, 4);
  return v;
}
inline void store_shared_u32(uint32_t address, uint32_t v) { std::memcpy(shared_memory + address, &v, 4); }
inline float load_shared_float(uint32_t address) {
  float v;
  std::memcpy(&v, shared_memory + address, 4);
  return v;
}
inline uint2 load_shared_v2(uint32_t address) {
  uint2 v;
  if (address % 8 != 0) std::abort();
  std::memcpy(&v, shared_memory + address, 8);
  return v;
}
inline uint4 load_shared_v4(uint32_t address) {
  uint4 v;
  if (address % 16 != 0) std::abort();
  std::memcpy(&v, shared_memory + address, 16);
  return v;
}
inline void store_shared_v4(uint32_t address, uint4 v) {
  if (address % 16 != 0) std::abort();
  std::memcpy(shared_memory + address, &v, 16);
}
inline void reduce_max_shared(uint32_t address, uint32_t v) {
  uint32_t& to = *reinterpret_cast<uint32_t*>(shared_memory + address);
  to = std::max(to, v);
}
inline void reduce_add_shared(uint32_t address, uint32_t v) {
  *reinterpret_cast<uint32_t*>(shared_memory + address) += v;
}
inline void bulk_copy(uint32_t to, const void* from, uint32_t bytes, uint32_t bar) {
  if (to % 16 != 0 || bytes % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0) std::abort();
  simt::copy_bulk(bar, bytes, [=] { std::memcpy(shared_memory + to, from, bytes); });
}
inline uint64_t read_once() { return 0; }
inline void bulk_copy_once(uint32_t to, const void* from, uint32_t bytes, uint32_t bar, uint64_t) {
  bulk_copy(to, from, bytes, bar);
}
inline void prefetch_l2(const void*) {}

}  // namespace comet::cuda::ptx
