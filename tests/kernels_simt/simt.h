// SPDX-License-Identifier: Apache-2.0
// One CTA on the CPU: a fiber a thread, warps in random order; enough of CUDA's language for tile/quantize_row.cuh. To
// be included before any kernel's text.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

namespace simt {

struct Index {
  unsigned x;
};

// Runs body once for every thread of CTA `cta` of `ctas`; aborts where threads wait for each other for ever.
void run_cta(int cta, int ctas, int threads, const std::function<void()>& body);

Index thread_index();
Index cta_index();
Index num_ctas();
Index num_threads();

// Waits for all threads of the CTA, or of the warp.
void sync_cta();
const uint32_t* exchange(uint32_t value);  // what the 32 lanes gave; until the lane's second exchange from here

// cp.async: a copy is made as late as the wait for its group allows.
void copy_async(std::function<void()> copy);
void commit_copies();
void wait_copies(size_t most_pending);

// Named barriers, and mbarriers, which are known by their address. A bulk copy is made at any time from its start to
// when a thread that waits for it cannot go on without.
void sync_named(int id, int threads);
void arrive_named(int id, int threads);
void mbarrier_init(uint32_t bar, int arrivals);
void mbarrier_arrive(uint32_t bar, uint32_t bytes);
void mbarrier_wait(uint32_t bar, uint32_t parity);
void mbarrier_wait_briefly(uint32_t bar, uint32_t parity);  // gives up at times
void copy_bulk(uint32_t bar, uint32_t bytes, std::function<void()> copy);

}  // namespace simt

#undef __device__
#undef __host__
#undef __forceinline__
#undef __noinline__
#undef __global__
#undef __shared__
#undef __launch_bounds__
#undef __grid_constant__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ inline
#define __global__
#define __shared__
#define __launch_bounds__(...)
#define __grid_constant__
#define threadIdx (simt::thread_index())
#define blockIdx (simt::cta_index())
#define gridDim (simt::num_ctas())
#define blockDim (simt::num_threads())

inline void __syncthreads() { simt::sync_cta(); }
inline void __syncwarp() { simt::exchange(0); }

template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  static_assert(sizeof(T) == 4);
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  bits = simt::exchange(bits)[lane];
  std::memcpy(&value, &bits, 4);
  return value;
}
template <class T>
T __shfl_xor_sync(unsigned all, T value, int mask) {
  return __shfl_sync(all, value, static_cast<int>(threadIdx.x % 32) ^ mask);
}
inline bool __all_sync(unsigned, bool p) {
  const uint32_t* lanes = simt::exchange(p);
  return std::all_of(lanes, lanes + 32, [](uint32_t v) { return v != 0; });
}
inline bool __any_sync(unsigned, bool p) {
  const uint32_t* lanes = simt::exchange(p);
  return std::any_of(lanes, lanes + 32, [](uint32_t v) { return v != 0; });
}
inline uint32_t __reduce_max_sync(unsigned, uint32_t v) {
  const uint32_t* lanes = simt::exchange(v);
  return *std::max_element(lanes, lanes + 32);
}
inline uint32_t __reduce_add_sync(unsigned, uint32_t v) {
  const uint32_t* lanes = simt::exchange(v);
  uint32_t sum = 0;
  for (int i = 0; i < 32; ++i) sum += lanes[i];
  return sum;
}
inline uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) out |= static_cast<uint32_t>(bytes >> (8 * (selector >> (4 * i) & 7)) & 255) << (8 * i);
  return out;
}
// max(min(a + b, c), 0) of signed 16-bit halves.
inline uint32_t __viaddmin_s16x2_relu(uint32_t a, uint32_t b, uint32_t c) {
  const auto of_half = [](uint32_t x, uint32_t y, uint32_t z) {
    const int sum = static_cast<int16_t>(static_cast<uint16_t>(x) + static_cast<uint16_t>(y));
    return static_cast<uint32_t>(std::max(std::min(sum, static_cast<int>(static_cast<int16_t>(z))), 0));
  };
  return of_half(a, b, c) | of_half(a >> 16, b >> 16, c >> 16) << 16;
}
inline int __dp4a(int a, int b, int sum) {
  for (int i = 0; i < 4; ++i) sum += static_cast<int8_t>(a >> (8 * i)) * static_cast<int8_t>(b >> (8 * i));
  return sum;
}
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __int2float_rn(int v) { return static_cast<float>(v); }
using std::max;
using std::min;
