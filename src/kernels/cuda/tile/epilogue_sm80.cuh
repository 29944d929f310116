// SPDX-License-Identifier: Apache-2.0
// Accumulators of a warp (16 rows a unit x 8 tokens a block) -> d[m, n]: through shared memory, scaled, coalesced.
#pragma once

#include <cuda_bf16.h>

#include "kernels/cuda/gemm_kernels_sm80.h"
#include "kernels/cuda/ptx/memory.cuh"

namespace comet::cuda {

// Staged at a time: 8 tokens of kUnits * 16 rows and 4 words of padding, so that neither the scattered stores nor the
// 16-byte loads meet in a bank.
template <int kUnits>
constexpr int kStagedTokenBytes = (kUnits * 16 + 4) * 4;

template <int kUnits, int kBlocks>
struct EpilogueSm80 {
  static constexpr int kPieces = kUnits * 4;  // of 4 rows; a lane keeps to one
  static constexpr int kWarpBytes = 8 * kStagedTokenBytes<kUnits>;

  const GemmKernelArgsSm80& args;
  uint32_t staging;  // of this warp
  int lane, token0, row0;
  float channel_scale[4], bias[4];

  __device__ EpilogueSm80(const GemmKernelArgsSm80& kernel_args, uint32_t warp_staging, int warp_lane, int first_token,
                          int first_row)
      : args(kernel_args),
        staging(warp_staging),
        lane(warp_lane),
        token0(first_token),
        row0(first_row + warp_lane % kPieces * 4) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool inside = row0 + i < args.n;
      channel_scale[i] = inside ? args.channel_scales[row0 + i] : 0.0f;
      bias[i] = inside && args.bias != nullptr ? args.bias[row0 + i] : 0.0f;
    }
  }

  // y = (float(acc) * sx) * s0 (+ bias); acc carries 128 * osum.
  __device__ float scaled(uint32_t acc, uint32_t sum, float scale, int i) const {
    const int32_t exact = static_cast<int32_t>(acc - (sum << 7));
    const float y = __fmul_rn(__fmul_rn(__int2float_rn(exact), scale), channel_scale[i]);
    return args.bias != nullptr ? __fadd_rn(y, bias[i]) : y;
  }

  __device__ void store(int token, uint4 v) const {
    const uint32_t sum = args.sums[token];
    const float scale = args.scales[token];
    const float y[4] = {scaled(v.x, sum, scale, 0), scaled(v.y, sum, scale, 1), scaled(v.z, sum, scale, 2),
                        scaled(v.w, sum, scale, 3)};
    const size_t at = static_cast<size_t>(token) * args.n + row0;
    const bool whole = args.n % 4 == 0;
    if (args.output == GemmOutput::bf16) {
      __nv_bfloat16* to = static_cast<__nv_bfloat16*>(args.d) + at;
      if (whole) {
        const __nv_bfloat162 low = __floats2bfloat162_rn(y[0], y[1]), high = __floats2bfloat162_rn(y[2], y[3]);
        *reinterpret_cast<uint2*>(to) = {*reinterpret_cast<const uint32_t*>(&low),
                                         *reinterpret_cast<const uint32_t*>(&high)};
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i)
          if (row0 + i < args.n) to[i] = __float2bfloat16_rn(y[i]);
      }
      return;
    }
    float* to = static_cast<float*>(args.d) + at;
    const bool add = args.output == GemmOutput::add_f32;
    if (whole) {
      const float4 old = add ? *reinterpret_cast<const float4*>(to) : float4{};
      *reinterpret_cast<float4*>(to) = {add ? __fadd_rn(old.x, y[0]) : y[0], add ? __fadd_rn(old.y, y[1]) : y[1],
                                        add ? __fadd_rn(old.z, y[2]) : y[2], add ? __fadd_rn(old.w, y[3]) : y[3]};
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (row0 + i < args.n) to[i] = add ? __fadd_rn(to[i], y[i]) : y[i];
    }
  }

  // The accumulators of block j are named by constants only, or they would leave the registers.
  __device__ __forceinline__ void stage(const int4 (&acc)[kUnits][kBlocks], int block) const {
    const uint32_t to = staging + lane % 4 * 2 * kStagedTokenBytes<kUnits> + lane / 4 * 4;
#pragma unroll
    for (int j = 0; j < kBlocks; ++j) {
      if (j != block) continue;
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        ptx::store_shared_u32(to + u * 64, acc[u][j].x);
        ptx::store_shared_u32(to + u * 64 + kStagedTokenBytes<kUnits>, acc[u][j].y);
        ptx::store_shared_u32(to + u * 64 + 32, acc[u][j].z);
        ptx::store_shared_u32(to + u * 64 + 32 + kStagedTokenBytes<kUnits>, acc[u][j].w);
      }
    }
  }

  __device__ void run(const int4 (&acc)[kUnits][kBlocks]) const {
#pragma unroll 1
    for (int j = 0; j < kBlocks; ++j) {
      __syncwarp();
      stage(acc, j);
      __syncwarp();
#pragma unroll
      for (int i = 0; i < kUnits; ++i) {
        const int slot = lane / kPieces + i * (32 / kPieces), token = token0 + j * 8 + slot;
        const uint4 v = ptx::load_shared_v4(staging + slot * kStagedTokenBytes<kUnits> + lane % kPieces * 16);
        if (token < args.m && row0 < args.n) store(token, v);
      }
    }
  }
};

}  // namespace comet::cuda
