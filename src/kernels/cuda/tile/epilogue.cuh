// SPDX-License-Identifier: Apache-2.0
// Accumulators of a warpgroup (64 rows x kTileM tokens) -> d[m, n]: scale, stage in shared memory, store coalesced.
#pragma once

#include <cuda_bf16.h>

#include "kernels/cuda/gemm_kernels_sm90.h"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/memory.cuh"

namespace comet::cuda {

constexpr int kSliceBytes = 4096;  // staged at a time: 32 tokens x 64 rows of bf16 or 16 tokens x 64 rows of f32

// Where a thread stands: lane holds rows g and g + 8 of its warp's 16, tokens 8 j + 2 t and + 1.
struct Fragment {
  int warpgroup, thread, warp, lane;  // thread, warp: inside the warpgroup
  __device__ int row() const { return lane / 4; }
  __device__ int token() const { return lane % 4 * 2; }
};

// y = (float(acc) * sx) * s0 (+ bias); acc of offset weights carries 128 * osum.
template <bool kOffset128>
struct Scaler {
  float channel_scale[2], bias[2];  // rows g, g + 8
  bool has_bias;

  __device__ void load(const GemmKernelArgs& args, int first_row) {
    has_bias = args.bias != nullptr;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = first_row + 8 * i;
      channel_scale[i] = row < args.n ? args.channel_scales[row] : 0.0f;
      bias[i] = has_bias && row < args.n ? args.bias[row] : 0.0f;
    }
  }

  __device__ float operator()(int32_t acc, uint32_t sum, float scale, int i) const {
    const uint32_t exact = static_cast<uint32_t>(acc) - (kOffset128 ? sum << 7 : 0u);
    const float y = __fmul_rn(__fmul_rn(__int2float_rn(static_cast<int32_t>(exact)), scale), channel_scale[i]);
    return has_bias ? __fadd_rn(y, bias[i]) : y;
  }
};

// Shared addresses of the tile's per-token values.
struct TokenValues {
  uint32_t sums, scales, factors;
};

template <bool kOffset128, int kTileM>
struct Epilogue {
  const GemmKernelArgs& args;
  const Fragment& at;
  const Scaler<kOffset128>& scaler;
  TokenValues tokens;
  uint32_t staging;  // two slices of this warpgroup
  int token0, row0;  // of the tile and of the warpgroup
  int rank, ranks;   // this CTA finishes every ranks-th 32 tokens, from rank on

  // The four outputs of 8 tokens from token 8 j: rows g (x, y) and g + 8 (z, w), two tokens each.
  __device__ float4 outputs(const int32_t (&acc)[kTileM / 2], int j) const {
    const uint32_t offset = (8 * j + at.token()) * 4;
    const uint2 sum = ptx::load_shared_v2(tokens.sums + offset), s = ptx::load_shared_v2(tokens.scales + offset);
    const float s0 = __uint_as_float(s.x), s1 = __uint_as_float(s.y);
    return {scaler(acc[4 * j], sum.x, s0, 0), scaler(acc[4 * j + 1], sum.y, s1, 0),
            scaler(acc[4 * j + 2], sum.x, s0, 1), scaler(acc[4 * j + 3], sum.y, s1, 1)};
  }

  static __device__ uint32_t pack(float low, float high) {
    const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&v);
  }

  // Slice: [32 tokens][8 pieces of 8 rows], piece c of token i at c ^ (i % 8).
  __device__ void stage_bf16(const int32_t (&acc)[kTileM / 2], int slice, uint32_t buffer) const {
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const float4 a = outputs(acc, slice * 4 + pair * 2), b = outputs(acc, slice * 4 + pair * 2 + 1);
      const int token = pair * 16 + at.lane / 16 * 8 + at.lane % 8, piece = at.warp * 2 + at.lane / 8 % 2;
      ptx::store_matrix_x4_trans(buffer + token * 128 + ((piece ^ (token % 8)) * 16), pack(a.x, a.y), pack(a.z, a.w),
                                 pack(b.x, b.y), pack(b.z, b.w));
    }
  }

  __device__ void store_bf16(int slice, uint32_t buffer) const {
    __nv_bfloat16* d = static_cast<__nv_bfloat16*>(args.d);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int slot = at.thread / 8 + 16 * i, piece = at.thread % 8;
      const int token = token0 + slice * 32 + slot, row = row0 + piece * 8;
      if (token >= args.m || row >= args.n) continue;
      const uint4 v = ptx::load_shared_v4(buffer + slot * 128 + ((piece ^ (slot % 8)) * 16));
      __nv_bfloat16* to = d + static_cast<size_t>(token) * args.n + row;
      if (args.n % 8 == 0) {
        *reinterpret_cast<uint4*>(to) = v;
      } else {
        const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int e = 0; e < 8; ++e)
          if (row + e < args.n) to[e] = __ushort_as_bfloat16(static_cast<unsigned short>(words[e / 2] >> (e % 2 * 16)));
      }
    }
  }

  // Slice: [16 tokens][16 pieces of 4 rows], piece c of token i at c ^ (i % 8).
  __device__ void stage_f32(const int32_t (&acc)[kTileM / 2], int slice, uint32_t buffer) const {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const float4 y = outputs(acc, slice * 2 + j);
      const float values[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int token = j * 8 + at.token() + e % 2, row = at.warp * 16 + at.row() + e / 2 * 8;
        ptx::store_shared_u32(buffer + token * 256 + (((row / 4) ^ (token % 8)) * 16) + row % 4 * 4,
                              __float_as_uint(values[e]));
      }
    }
  }

  __device__ void store_f32(int slice, uint32_t buffer) const {
    float* d = static_cast<float*>(args.d);
    const bool add = args.output == GemmOutput::add_f32;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int slot = at.thread / 16 + 8 * i, piece = at.thread % 16;
      const int token = token0 + slice * 16 + slot, row = row0 + piece * 4;
      if (token >= args.m || row >= args.n) continue;
      const uint4 v = ptx::load_shared_v4(buffer + slot * 256 + ((piece ^ (slot % 8)) * 16));
      float4 y = {__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w)};
      float* to = d + static_cast<size_t>(token) * args.n + row;
      if (args.n % 4 == 0) {
        if (add) {
          const float4 old = *reinterpret_cast<const float4*>(to);
          y = {__fadd_rn(old.x, y.x), __fadd_rn(old.y, y.y), __fadd_rn(old.z, y.z), __fadd_rn(old.w, y.w)};
        }
        *reinterpret_cast<float4*>(to) = y;
      } else {
        const float values[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
        for (int e = 0; e < 4; ++e)
          if (row + e < args.n) to[e] = add ? __fadd_rn(to[e], values[e]) : values[e];
      }
    }
  }

  // toggle: which of the two slices is free; one barrier a slice, since the other is written meanwhile.
  __device__ void run(const int32_t (&acc)[kTileM / 2], uint32_t& toggle) const {
    const int barrier = 1 + at.warpgroup;
    if (args.output == GemmOutput::bf16) {
#pragma unroll
      for (int slice = 0; slice < kTileM / 32; ++slice) {
        if (ranks > 1 && slice % ranks != rank) continue;
        const uint32_t buffer = staging + toggle * kSliceBytes;
        stage_bf16(acc, slice, buffer);
        ptx::named_barrier_sync(barrier, 128);
        store_bf16(slice, buffer);
        toggle ^= 1u;
      }
    } else {
#pragma unroll
      for (int slice = 0; slice < kTileM / 16; ++slice) {
        if (ranks > 1 && slice / 2 % ranks != rank) continue;
        const uint32_t buffer = staging + toggle * kSliceBytes;
        stage_f32(acc, slice, buffer);
        ptx::named_barrier_sync(barrier, 128);
        store_f32(slice, buffer);
        toggle ^= 1u;
      }
    }
  }
};

}  // namespace comet::cuda
