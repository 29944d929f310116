// SPDX-License-Identifier: Apache-2.0
// Barriers: mbarrier in shared memory, named CTA barriers, proxy fences. One wrapper per instruction.
#pragma once

#include <cstdint>

namespace comet::cuda::ptx {

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// With COMET_CUDA_SLEEPS (a build that looks for missing waits) every wait and every arrival comes late by chance.
__device__ __forceinline__ void sleep_by_chance() {
#ifdef COMET_CUDA_SLEEPS
  const uint32_t x = static_cast<uint32_t>(::clock()) * 2654435761u;
  if (x >> 30 == 0) __nanosleep(x >> 19);
#endif
}

// With COMET_CUDA_RACECHECK (a build for compute-sanitizer's racecheck) kernels are as it can follow them: it hangs
// where a warp that has arrived at a cluster's barrier waits for something else first, and has no registers of its own
// in a kernel that is bound to few.
#ifdef COMET_CUDA_RACECHECK
constexpr bool kIsForRacecheck = true;
#else
constexpr bool kIsForRacecheck = false;
#endif

__device__ __forceinline__ void mbarrier_init(uint32_t bar, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}

// Makes initialised mbarriers visible to the copy engine.
__device__ __forceinline__ void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Makes this thread's stores to shared memory visible to the copy engine.
__device__ __forceinline__ void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// One arrival that also announces `bytes` of bulk copies.
__device__ __forceinline__ void mbarrier_arrive_expect(uint32_t bar, uint32_t bytes) {
  sleep_by_chance();
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}

__device__ __forceinline__ void mbarrier_arrive(uint32_t bar) {
  sleep_by_chance();
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}

// On a barrier of another CTA of the cluster (map_to_cta). Relaxed: it says that reads are over (what they brought has
// been used, wgmma waited for), and a release at the scope of a cluster would cost a fence of the whole GPU each time.
__device__ __forceinline__ void mbarrier_arrive_cluster(uint32_t mapped) {
  sleep_by_chance();
  asm volatile("mbarrier.arrive.relaxed.cluster.shared::cluster.b64 _, [%0];" ::"r"(mapped) : "memory");
}

// Blocks until the phase with this parity is over.
__device__ __forceinline__ void mbarrier_wait(uint32_t bar, uint32_t parity) {
  sleep_by_chance();
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra end;\n"
      "bra again;\n"
      "end:\n"
      "}" ::"r"(bar),
      "r"(parity)
      : "memory");
}

// The same for some 64 us at most: for a wait that is not needed for the result, where the phase may be over twice.
__device__ __forceinline__ void mbarrier_wait_briefly(uint32_t bar, uint32_t parity) {
  sleep_by_chance();
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      ".reg .u32 tries;\n"
      "mov.u32 tries, 64;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1, 1000;\n"
      "@done bra end;\n"
      "sub.u32 tries, tries, 1;\n"
      "setp.eq.u32 done, tries, 0;\n"
      "@done bra end;\n"
      "bra again;\n"
      "end:\n"
      "}" ::"r"(bar),
      "r"(parity)
      : "memory");
}

__device__ __forceinline__ void named_barrier_sync(int id, int threads) {
  sleep_by_chance();
  __syncwarp();
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// This warp has arrived at a named barrier, which others wait at.
__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
  sleep_by_chance();
  __syncwarp();
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// The barrier of all threads of a cluster, in two halves. Relaxed: it orders nothing but fence_mbarrier_init.
__device__ __forceinline__ void cluster_arrive() {
  sleep_by_chance();
  __syncwarp();
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
  sleep_by_chance();
  __syncwarp();
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Of this CTA in its cluster.
__device__ __forceinline__ int cluster_rank() {
  int rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// The address of the same place in the shared memory of another CTA of the cluster.
__device__ __forceinline__ uint32_t map_to_cta(uint32_t address, int rank) {
  uint32_t mapped;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
}

}  // namespace comet::cuda::ptx
