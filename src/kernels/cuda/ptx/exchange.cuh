// SPDX-License-Identifier: Apache-2.0
// What CTAs of a cluster send each other: asynchronous stores that an mbarrier there counts. One wrapper per
// instruction.
#pragma once

#include <cstdint>

namespace comet::cuda::ptx {

// Every CTA of the cluster runs and has initialised its barriers.
__device__ __forceinline__ void cluster_meet() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// To shared memory of a CTA of the cluster (map_to_cta); counts 8 and 4 bytes on its mbarrier.
__device__ __forceinline__ void store_async_v2(uint32_t mapped, uint32_t a, uint32_t b, uint32_t mapped_bar) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::"r"(mapped),
               "r"(a), "r"(b), "r"(mapped_bar)
               : "memory");
}
__device__ __forceinline__ void store_async_u32(uint32_t mapped, uint32_t v, uint32_t mapped_bar) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(mapped), "r"(v),
               "r"(mapped_bar)
               : "memory");
}

}  // namespace comet::cuda::ptx
