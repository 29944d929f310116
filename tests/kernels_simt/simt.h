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

}  // namespace simt

#undef __device__
#undef __host__
#undef __forceinline__
#undef __noinline__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ inline
#define threadIdx (simt::thread_index())
#define blockIdx (simt::cta_index())
#define gridDim (simt::num_ctas())
#define blockDim (simt::num_threads())

inline void __syncthreads() { simt::sync_cta(); }

template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  static_assert(sizeof(T) == 4);
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  bits = simt::exchange(bits)[(threadIdx.x % 32) ^ static_cast<unsigned>(mask)];
  std::memcpy(&value, &bits, 4);
  return value;
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
inline int __dp4a(int a, int b, int sum) {
  for (int i = 0; i < 4; ++i) sum += static_cast<int8_t>(a >> (8 * i)) * static_cast<int8_t>(b >> (8 * i));
  return sum;
}
using std::max;
using std::min;
