// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace comet::cuda::ptx {

inline char* shared_memory = nullptr;  // of the CTA that runs; a test says where

inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(static_cast<const char*>(p) - shared_memory);
}

inline void named_barrier_sync(int id, int threads) { simt::sync_named(id, threads); }
constexpr bool kIsForRacecheck = false;
inline void mbarrier_init(uint32_t bar, int arrivals) { simt::mbarrier_init(bar, arrivals); }
inline void mbarrier_arrive(uint32_t bar) { simt::mbarrier_arrive(bar, 0); }
inline void mbarrier_arrive_expect(uint32_t bar, uint32_t bytes) { simt::mbarrier_arrive(bar, bytes); }
inline void mbarrier_wait(uint32_t bar, uint32_t parity) { simt::mbarrier_wait(bar, parity); }
inline void mbarrier_wait_briefly(uint32_t bar, uint32_t parity) { simt::mbarrier_wait_briefly(bar, parity); }
inline void fence_mbarrier_init() {}

}  // namespace comet::cuda::ptx
