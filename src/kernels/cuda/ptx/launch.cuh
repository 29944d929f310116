// SPDX-License-Identifier: Apache-2.0
// Programmatic dependent launch, the SM's clock, registers between warpgroups. One wrapper per instruction.
#pragma once

#include <cstdint>

namespace comet::cuda::ptx {

// Blocks until the kernels before this one are complete and their writes are visible.
__device__ __forceinline__ void wait_for_previous_kernel() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

// The next kernel may start once every thread of the grid has said so or exited.
__device__ __forceinline__ void allow_next_kernel() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

// Of this SM; wraps around.
__device__ __forceinline__ uint32_t clock() {
  uint32_t clocks;
  asm volatile("mov.u32 %0, %%clock;" : "=r"(clocks)::"memory");
  return clocks;
}

// Registers a thread of this warpgroup may use from here on; the kernel has one branch for each role.
template <int kCount>
__device__ __forceinline__ void decrease_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void increase_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

}  // namespace comet::cuda::ptx
