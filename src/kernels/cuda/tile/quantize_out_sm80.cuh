// SPDX-License-Identifier: Apache-2.0
// Codes into the slabs of layouts_sm80.h: 64 bytes a token and step, whose 8 lanes write them without gaps.
#pragma once

#include "kernels/cuda/layouts_sm80.h"
#include "kernels/cuda/tile/quantize_row.cuh"

namespace comet::cuda {

// Lane t of a group holds the channels 32 h + 4 t .. + 3 in word h; the lanes 2 q and 2 q + 1 make the words of quarter
// q and each store half of them:
//
//   int4   8 bytes a lane:    t even: words 0, 1 (h = 0, 1)     t odd: words 2, 3
//   int8   16 bytes a lane:   t even: the group's first step    t odd: its second
//
// v of the 4-bit groups waits in shared memory until the token is over: a zero step takes it from 32 groups.
struct OutputSm80 {
  QuantizedActs out;
  StepsSm80 steps;
  int m;
  int16_t* v;  // [parity 2][zero_steps * 32], 0 where no 4-bit group is

  __device__ int num_tokens() const { return padded_tokens_sm80(m); }
  __device__ int8_t* slab(int step, int token) const {
    return out.values + (static_cast<size_t>(step) * padded_tokens_sm80(m) + token) * kSlabTokenBytes;
  }
  __device__ int num_v() const { return steps.zero_steps * kZeroGroups; }

  // Before the first token.
  __device__ void clear() const {
    for (int i = threadIdx.x; i < 2 * num_v(); i += blockDim.x) v[i] = 0;
  }

  __device__ __forceinline__ void store(int token, int parity, int group, int lane, int multiplier,
                                        const uint32_t (&words)[4], int sum) const {
    const int t = lane % kUnitLanes, int8_groups = steps.int8_steps / 2;
    const bool is_mine = group < steps.groups, is_wide = group < int8_groups, is_odd = t % 2 != 0;
    // From two halves in this lane and two in its mate: the words with the even lane's half below.
    const uint32_t lower = is_odd ? 0x1054 : 0x5410, upper = is_odd ? 0x3276 : 0x7632;
    if (__any_sync(~0u, is_wide)) {
      uint32_t p[4];  // codes of even, of odd channels
#pragma unroll
      for (int h = 0; h < 4; ++h) p[h] = __byte_perm(words[h], 0, 0x3120);
      uint4 bytes;
      uint32_t own = is_odd ? p[2] : p[0], mate = __shfl_xor_sync(~0u, is_odd ? p[0] : p[2], 1);
      bytes.x = __byte_perm(own, mate, lower), bytes.y = __byte_perm(own, mate, upper);
      own = is_odd ? p[3] : p[1], mate = __shfl_xor_sync(~0u, is_odd ? p[1] : p[3], 1);
      bytes.z = __byte_perm(own, mate, lower), bytes.w = __byte_perm(own, mate, upper);
      if (is_wide) *reinterpret_cast<uint4*>(slab(2 * group + t % 2, token) + t / 2 * 16) = bytes;
    }
    if (__any_sync(~0u, is_mine && !is_wide)) {
      uint32_t n[4];  // nibbles in bytes 0 and 2
#pragma unroll
      for (int h = 0; h < 4; ++h) n[h] = words[h] & 0x0f0f0f0fu, n[h] |= n[h] >> 4;
      const uint32_t low = __byte_perm(n[0], n[1], 0x6420), high = __byte_perm(n[2], n[3], 0x6420);
      const uint32_t own = is_odd ? high : low, mate = __shfl_xor_sync(~0u, is_odd ? low : high, 1);
      const uint2 bytes = {__byte_perm(own, mate, lower), __byte_perm(own, mate, upper)};
      const int step = steps.int8_steps + steps.zero_steps + group - int8_groups;
      if (is_mine && !is_wide) *reinterpret_cast<uint2*>(slab(step, token) + t * 8) = bytes;
    }
    if (t != 0 || !is_mine) return;
    out.multipliers[static_cast<size_t>(group) * padded_tokens_sm80(m) + token] = static_cast<uint8_t>(multiplier);
    if (!is_wide) v[parity * num_v() + group - steps.first_zero * kZeroGroups] = static_cast<int16_t>(multiplier * sum);
    store_group_sum(out, token, steps.groups, group, sum);
  }

  // The zero steps of a token, by a warp: a lane a quarter of a step.
  __device__ __forceinline__ void finish(int token, int parity, int lane) const {
#pragma unroll 1
    for (int i = lane; i < steps.zero_steps * 4; i += 32) {
      const int16_t* from = v + parity * num_v() + i / 4 * kZeroGroups + i % 4 * 4;
      uint32_t bytes[4] = {0, 0, 0, 0};
#pragma unroll
      for (int j = 0; j < 2; ++j)
#pragma unroll
        for (int b = 0; b < 4; ++b) {
          const int value = from[16 * j + b];
          bytes[j] |= static_cast<uint32_t>(zero_high(value) & 255) << (8 * b);
          bytes[2 + j] |= static_cast<uint32_t>(zero_low(value)) << (8 * b);
        }
      *reinterpret_cast<uint4*>(slab(steps.int8_steps + i / 4, token) + i % 4 * 16) = {bytes[0], bytes[1], bytes[2],
                                                                                       bytes[3]};
    }
  }

  __device__ void store_padding(int token) const {
    for (int i = threadIdx.x; i < steps.total * 4; i += blockDim.x)
      *reinterpret_cast<uint4*>(slab(i / 4, token) + i % 4 * 16) = {0, 0, 0, 0};
    for (int g = threadIdx.x; g < steps.groups; g += blockDim.x)
      out.multipliers[static_cast<size_t>(g) * padded_tokens_sm80(m) + token] = 1;
  }
};

// bytes: shared memory, [v of 4-bit groups, two parities | what Row keeps].
template <class Row, int kUnits>
__device__ __forceinline__ void quantize_rows_sm80(const RowArgs& k, char* bytes, RowShared& s) {
  const ActFormat& f = k.p.format;
  const OutputSm80 out{k.a.out, make_steps_sm80(f.k, f.num_int8_groups, f.bits2), k.p.m,
                       reinterpret_cast<int16_t*>(bytes)};
  out.clear();
  Row row(k, bytes + 2 * sizeof(int16_t) * out.num_v(), s);
  quantize_rows<kUnits>(k, row, out, s);
}

}  // namespace comet::cuda
