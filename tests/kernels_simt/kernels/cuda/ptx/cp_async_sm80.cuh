// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/ptx/barrier.cuh"

namespace comet::cuda::ptx {

inline void cp_async_16(uint32_t to, const void* from) {
  if (to % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0) std::abort();
  simt::copy_async([=] { std::memcpy(shared_memory + to, from, 16); });
}
inline void cp_async_4(uint32_t to, const void* from) {
  if (to % 4 != 0 || reinterpret_cast<uintptr_t>(from) % 4 != 0) std::abort();
  simt::copy_async([=] { std::memcpy(shared_memory + to, from, 4); });
}
inline void cp_async_commit() { simt::commit_copies(); }
template <int kPending>
void cp_async_wait() {
  simt::wait_copies(kPending);
}

}  // namespace comet::cuda::ptx
