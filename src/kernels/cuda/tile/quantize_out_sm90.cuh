// SPDX-License-Identifier: Apache-2.0
// Values into the tiles of layouts_sm90.h for tile/quantize_row.cuh.
#pragma once

#include "kernels/cuda/layouts_sm90.h"
#include "kernels/cuda/tile/quantize_row.cuh"

namespace comet::cuda {

struct OutputSm90 {
  QuantizedActs out;
  int m, groups, bits2, n8;

  __device__ int num_tokens() const { return padded_tokens(m); }

  // Codes times the multiplier: as bytes from 0, so that one multiplication makes four without carries.
  __device__ __forceinline__ void store(int token, int, int group, int lane, int multiplier, const uint32_t (&words)[4],
                                        int sum) const {
    if (group >= groups) return;
    const int t = lane % kUnitLanes;
    const uint32_t limit = group < n8 || bits2 == 8 ? 127u : 7u, scale = static_cast<uint32_t>(multiplier);
#pragma unroll
    for (int h = 0; h < 4; ++h) {
      const uint32_t from_zero = (words[h] ^ 0x80808080u) - (128u - limit) * 0x01010101u;
      *reinterpret_cast<uint32_t*>(
          out.values + activation_offset_sm90(out.layout, m, token, group * kGroup + channel_after(4 * h, t))) =
          (from_zero * scale + (128u - limit * scale) * 0x01010101u) ^ 0x80808080u;
    }
    if (t != 0) return;
    if (out.multipliers != nullptr)
      out.multipliers[static_cast<size_t>(token) * groups + group] = static_cast<uint8_t>(multiplier);
    store_group_sum(out, token, groups, group, sum);
  }

  __device__ void finish(int, int, int) const {}

  __device__ void store_padding(int token) const {
    for (int k = threadIdx.x * 4; k < groups * kGroup; k += blockDim.x * 4)
      *reinterpret_cast<uint32_t*>(out.values + activation_offset_sm90(out.layout, m, token, k)) = 0;
    if (threadIdx.x == 0) out.scales[token] = 0.0f, out.region1_factors[token] = 1, out.sums[token] = 0;
  }
};

__device__ __forceinline__ OutputSm90 output_sm90(const RowArgs& k) {
  const ActFormat& f = k.p.format;
  return {k.a.out, k.p.m, f.k / kGroup, f.bits2, f.num_int8_groups};
}

}  // namespace comet::cuda
