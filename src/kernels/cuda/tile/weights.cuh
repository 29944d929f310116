// SPDX-License-Identifier: Apache-2.0
// A unit of packed weights (16 rows x 128 k) in shared memory -> the 16 registers of the mma operand.
#pragma once

#include "kernels/cuda/layouts_sm90.h"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/ptx/mma.cuh"
#include "kernels/cuda/ptx/wgmma.cuh"

namespace comet::cuda {

// Four offset weights from four codes: every byte of q * s1 + (128 - z * s1) * 0x01010101 stays in 0..255.
struct GroupAffine {
  uint32_t scale, offset;
};

__device__ __forceinline__ GroupAffine group_affine(uint32_t params) {
  const uint32_t scale = ((params >> 4) & 15u) + 1u, zero = params & 15u;
  return {scale, (128u - zero * scale) * 0x01010101u};
}

// 4-bit progressive weights as u8 = w8 + 128; the kernels take 128 * osum off at the end.
struct WeightsW4 {
  static constexpr int kUnitBytes = kUnitBytesW4;
  static constexpr bool kOffset128 = true;

  // What a lane reads of a unit; unpacking it can wait until the unit's place is free for the next.
  struct Raw {
    uint4 low, high;
    uint32_t params;
  };
  static __device__ __forceinline__ Raw fetch(uint32_t unit, int lane) {
    return {ptx::load_shared_v4(unit + lane * 16), ptx::load_shared_v4(unit + 512 + lane * 16),
            ptx::load_shared_u16(unit + kUnitParamsW4 + lane / 4 * 2)};
  }
  // a[4 j ..] are a0..a3 of step j.
  static __device__ __forceinline__ void unpack(const Raw& raw, uint32_t (&a)[16]) {
    const GroupAffine row0 = group_affine(raw.params), row8 = group_affine(raw.params >> 8);
    const uint32_t words[8] = {raw.low.x,  raw.low.y,  raw.low.z,  raw.low.w,
                               raw.high.x, raw.high.y, raw.high.z, raw.high.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      a[2 * i] = (words[i] & 0x0f0f0f0fu) * row0.scale + row0.offset;
      a[2 * i + 1] = ((words[i] >> 4) & 0x0f0f0f0fu) * row8.scale + row8.offset;
    }
  }

  template <int kRegs>
  static __device__ __forceinline__ void wgmma(int32_t (&c)[kRegs], const uint32_t* a, uint64_t b, bool accumulate) {
    ptx::wgmma_m64k32_u8(c, a, b, accumulate);
  }
  static __device__ __forceinline__ void mma(int32_t (&c)[4], const uint32_t* a, uint32_t b0, uint32_t b1) {
    ptx::mma_m16n8k32_u8s8(c, a[0], a[1], a[2], a[3], b0, b1);
  }
};

// Signed 8-bit weights, one scale a channel.
struct WeightsW8 {
  static constexpr int kUnitBytes = kUnitBytesW8;
  static constexpr bool kOffset128 = false;

  struct Raw {
    uint4 words[4];
  };
  static __device__ __forceinline__ Raw fetch(uint32_t unit, int lane) {
    Raw raw;
#pragma unroll
    for (int i = 0; i < 4; ++i) raw.words[i] = ptx::load_shared_v4(unit + i * 512 + lane * 16);
    return raw;
  }
  static __device__ __forceinline__ void unpack(const Raw& raw, uint32_t (&a)[16]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      a[4 * i] = raw.words[i].x, a[4 * i + 1] = raw.words[i].y, a[4 * i + 2] = raw.words[i].z,
            a[4 * i + 3] = raw.words[i].w;
    }
  }

  template <int kRegs>
  static __device__ __forceinline__ void wgmma(int32_t (&c)[kRegs], const uint32_t* a, uint64_t b, bool accumulate) {
    ptx::wgmma_m64k32_s8(c, a, b, accumulate);
  }
  static __device__ __forceinline__ void mma(int32_t (&c)[4], const uint32_t* a, uint32_t b0, uint32_t b1) {
    ptx::mma_m16n8k32_s8s8(c, a[0], a[1], a[2], a[3], b0, b1);
  }
};

}  // namespace comet::cuda
