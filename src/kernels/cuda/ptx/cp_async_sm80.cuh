// SPDX-License-Identifier: Apache-2.0
// Asynchronous copies of 16 and of 4 bytes from global to shared memory, in groups. One wrapper per instruction.
#pragma once

#include <cstdint>

namespace comet::cuda::ptx {

// Past the L1. Both addresses are multiples of 16.
__device__ __forceinline__ void cp_async_16(uint32_t dst, const void* src) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(dst), "l"(src) : "memory");
}

// Both addresses are multiples of 4.
__device__ __forceinline__ void cp_async_4(uint32_t dst, const void* src) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(dst), "l"(src) : "memory");
}

// Ends the group of all copies since the last commit.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Blocks until at most kPending of this thread's latest groups are under way.
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace comet::cuda::ptx
