// SPDX-License-Identifier: Apache-2.0
// The Weights without the layout and without the fast conversion.
#pragma once

#include "kernels/cuda/tile/weights.cuh"

namespace comet::cuda {

constexpr int kPlainRowBytes = kGroup / 2;

// A lane gathers the four codes of each register; the eight rows of a load lie 64 bytes apart, four on each bank.
struct PlainW4 : WeightsW4 {
  struct Raw {
    uint32_t codes[16];  // of register i: four codes, k ascending from bit 0
    uint32_t params[2];
  };
  static __device__ __forceinline__ Raw fetch(uint32_t unit, int lane) {
    const uint32_t from = unit + lane / 4 * kPlainRowBytes + lane % 4 * 2, params = unit + kUnitParamsW4 + lane / 4;
    Raw raw;
#pragma unroll
    for (int i = 0; i < 16; ++i) raw.codes[i] = ptx::load_shared_u16(from + i % 2 * 8 * kPlainRowBytes + i / 2 * 8);
    raw.params[0] = ptx::load_shared_u8(params);
    raw.params[1] = ptx::load_shared_u8(params + 8);
    return raw;
  }
  // Spreads the codes to bytes; from there as fast as the product.
  static __device__ __forceinline__ void unpack(const Raw& raw, uint32_t (&a)[16]) {
    const GroupAffine rows[2] = {group_affine(raw.params[0]), group_affine(raw.params[1])};
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const uint32_t pairs = (raw.codes[i] | raw.codes[i] << 8) & 0x00ff00ffu;
      a[i] = ((pairs | pairs << 4) & 0x0f0f0f0fu) * rows[i % 2].scale + rows[i % 2].offset;
    }
  }
};

// Each code on its own: take out, subtract the zero point, scale, offset, put in.
struct OneCodeW4 : WeightsW4 {
  static __device__ __forceinline__ void unpack(const Raw& raw, uint32_t (&a)[16]) {
    const uint32_t words[8] = {raw.low.x,  raw.low.y,  raw.low.z,  raw.low.w,
                               raw.high.x, raw.high.y, raw.high.z, raw.high.w};
    const int scale[2] = {group_scale_of(raw.params & 255u), group_scale_of(raw.params >> 8)};
    const int zero[2] = {group_zero_of(raw.params & 255u), group_zero_of(raw.params >> 8)};
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      a[i] = 0;
#pragma unroll
      for (int b = 0; b < 4; ++b) {
        const int code = (words[i / 2] >> (8 * b + i % 2 * 4)) & 15u;
        a[i] |= static_cast<uint32_t>((code - zero[i % 2]) * scale[i % 2] + 128) << (8 * b);
      }
    }
  }
};

}  // namespace comet::cuda
