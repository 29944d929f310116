// SPDX-License-Identifier: Apache-2.0
// Accumulators of a warpgroup (64 rows x kTileM tokens) -> d[m, n]: scale, stage in shared memory, store coalesced.
#pragma once

#include <cuda_bf16.h>

#include "kernels/cuda/gemm_kernels_sm90.h"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/tile/scaled.cuh"

namespace comet::cuda {

constexpr int kUnitTokens = 16;    // a unit: 16 tokens x 64 rows
constexpr int kSliceBytes = 4096;  // staged at a time: two units of bf16 or one of f32
constexpr int kStartBarrier = 0;   // of all warps
constexpr int kRingBarrier = 6;    // of two producers
constexpr int kSumBarrier = 5;     // of all consumers; 1 .. 4: of a warpgroup

// Where a thread stands: lane holds rows g and g + 8 of its warp's 16, tokens 8 j + 2 t and + 1.
struct Fragment {
  int side;                           // of the groups of k, 0 or 1 where a CTA has two sides
  int warpgroup, thread, warp, lane;  // warpgroup: of its side; thread, warp: inside the warpgroup
  __device__ int number() const { return side * 2 + warpgroup; }  // of the warpgroup in the CTA
  __device__ int barrier() const { return 1 + number(); }
  __device__ int row() const { return lane / 4; }
  __device__ int token() const { return lane % 4 * 2; }
};

// scaled() for a thread's two rows (+ bias).
template <bool kOffset128>
struct Scaler {
  float channel_scale[2], bias[2];  // rows g, g + 8

  __device__ void load(const GemmKernelArgs& args, int first_row) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = first_row + 8 * i;
      channel_scale[i] = row < args.n ? args.channel_scales[row] : 0.0f;
      bias[i] = args.bias != nullptr && row < args.n ? args.bias[row] : -0.0f;  // y + -0 is y, whatever y is
    }
  }

  template <bool kBias = true>
  __device__ float apply(int32_t acc, uint32_t sum, float scale, int i) const {
    const float y = scaled<kOffset128>(acc, sum, scale, channel_scale[i]);
    return kBias ? __fadd_rn(y, bias[i]) : y;
  }
};

// Shared addresses of the tile's per-token values.
struct TokenValues {
  uint32_t sums, scales, factors;
  __device__ TokenValues from(int token) const { return {sums + token * 4, scales + token * 4, factors + token * 4}; }
};

template <bool kOffset128, int kTileM>
struct Epilogue {
  const GemmKernelArgs& args;
  const Fragment& at;
  const Scaler<kOffset128>& scaler;
  TokenValues tokens;
  uint32_t staging;  // two slices of this warpgroup
  int token0, row0;  // of the tile and of the warpgroup

  // What 8 tokens from token 8 j need: sums and scales of this thread's two.
  struct Values {
    uint2 sums, scales;
  };
  __device__ Values load_values(int j) const {
    const uint32_t offset = (8 * j + at.token()) * 4;
    return {ptx::load_shared_v2(tokens.sums + offset), ptx::load_shared_v2(tokens.scales + offset)};
  }

  // Their four outputs: rows g (x, y) and g + 8 (z, w), two tokens each.
  template <bool kBias = true>
  __device__ float4 outputs(const int32_t (&acc)[kTileM / 2], int j, const Values& v) const {
    const float s0 = __uint_as_float(v.scales.x), s1 = __uint_as_float(v.scales.y);
    return {scaler.template apply<kBias>(acc[4 * j], v.sums.x, s0, 0),
            scaler.template apply<kBias>(acc[4 * j + 1], v.sums.y, s1, 0),
            scaler.template apply<kBias>(acc[4 * j + 2], v.sums.x, s0, 1),
            scaler.template apply<kBias>(acc[4 * j + 3], v.sums.y, s1, 1)};
  }

  static __device__ uint32_t pack(float low, float high) {
    const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&v);
  }

  // A unit as bf16, and its place: [16 tokens][8 pieces of 8 rows], piece c of token i at c ^ (i % 8).
  template <bool kBias = true>
  __device__ uint4 unit_bf16(const int32_t (&acc)[kTileM / 2], int unit, const Values (&v)[2]) const {
    const float4 a = outputs<kBias>(acc, unit * 2, v[0]), b = outputs<kBias>(acc, unit * 2 + 1, v[1]);
    return {pack(a.x, a.y), pack(a.z, a.w), pack(b.x, b.y), pack(b.z, b.w)};
  }
  __device__ void stage_bf16(uint4 v, uint32_t buffer) const {
    const int token = at.lane / 16 * 8 + at.lane % 8, piece = at.warp * 2 + at.lane / 8 % 2;
    ptx::store_matrix_x4_trans(buffer + token * 128 + ((piece ^ (token % 8)) * 16), v.x, v.y, v.z, v.w);
  }

  __device__ void store_bf16(int unit, uint32_t buffer) const {
    const int slot = at.thread / 8, piece = at.thread % 8;
    const int token = token0 + unit * kUnitTokens + slot, row = row0 + piece * 8;
    if (token >= args.m || row >= args.n) return;
    const uint4 v = ptx::load_shared_v4(buffer + slot * 128 + ((piece ^ (slot % 8)) * 16));
    __nv_bfloat16* to = static_cast<__nv_bfloat16*>(args.d) + static_cast<size_t>(token) * args.n + row;
    if (args.n % 8 == 0) {
      *reinterpret_cast<uint4*>(to) = v;
    } else {
      const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int e = 0; e < 8; ++e)
        if (row + e < args.n) to[e] = __ushort_as_bfloat16(static_cast<unsigned short>(words[e / 2] >> (e % 2 * 16)));
    }
  }

  // [16 tokens][16 pieces of 4 rows], piece c of token i at c ^ (i % 8).
  __device__ void stage_f32(const int32_t (&acc)[kTileM / 2], int unit, uint32_t buffer) const {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const float4 y = outputs(acc, unit * 2 + j, load_values(unit * 2 + j));
      const float values[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int token = j * 8 + at.token() + e % 2, row = at.warp * 16 + at.row() + e / 2 * 8;
        ptx::store_shared_u32(buffer + token * 256 + (((row / 4) ^ (token % 8)) * 16) + row % 4 * 4,
                              __float_as_uint(values[e]));
      }
    }
  }

  __device__ void store_f32(int unit, uint32_t buffer) const {
    float* d = static_cast<float*>(args.d);
    const bool add = args.output == GemmOutput::add_f32;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int slot = at.thread / 16 + 8 * i, piece = at.thread % 16;
      const int token = token0 + unit * kUnitTokens + slot, row = row0 + piece * 4;
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

  // The slice to stage next. One barrier a slice is enough, since two take turns.
  __device__ uint32_t next_slice(uint32_t& toggle) const {
    toggle ^= kSliceBytes;
    return staging + toggle;
  }

  // The first `units` of acc, kMost at most. toggle: the place of the slice that was staged last.
  template <int kMost>
  __device__ __forceinline__ void run(const int32_t (&acc)[kTileM / 2], int units, uint32_t& toggle) const {
    const bool is_bf16 = args.output == GemmOutput::bf16;
    if (is_bf16 && args.n % 8 == 0) {
      args.bias != nullptr ? run_rows_bf16<kMost, true>(acc, units, toggle)
                           : run_rows_bf16<kMost, false>(acc, units, toggle);
      return;
    }
    const auto each = [&](auto&& stage, auto&& store) {
#pragma unroll
      for (int unit = 0; unit < kMost; ++unit) {
        if (unit >= units) break;
        const uint32_t buffer = next_slice(toggle);
        stage(unit, buffer);
        ptx::named_barrier_sync(at.barrier(), 128);
        store(unit, buffer);
      }
    };
    if (is_bf16)
      each(
          [&](int unit, uint32_t to) {
            const Values v[2] = {load_values(unit * 2), load_values(unit * 2 + 1)};
            stage_bf16(unit_bf16(acc, unit, v), to);
          },
          [&](int unit, uint32_t from) { store_bf16(unit, from); });
    else
      each([&](int unit, uint32_t to) { stage_f32(acc, unit, to); },
           [&](int unit, uint32_t from) { store_f32(unit, from); });
  }

  // The usual case in as few instructions as it takes: nothing else runs on the SM meanwhile. Two units a slice.
  template <int kMost, bool kBias>
  __device__ __forceinline__ void run_rows_bf16(const int32_t (&acc)[kTileM / 2], int units, uint32_t& toggle) const {
    const int slot = at.thread / 8, piece = at.thread % 8, row = row0 + piece * 8;
    const int tokens = row < args.n ? min(args.m - token0, units * kUnitTokens) - slot : 0;  // from slot on
    const size_t step = static_cast<size_t>(args.n) * kUnitTokens;
    __nv_bfloat16* to = static_cast<__nv_bfloat16*>(args.d) + static_cast<size_t>(token0 + slot) * args.n + row;
    const uint32_t from = slot * 128 + ((piece ^ (slot % 8)) * 16);
    constexpr int kSlices = (kMost + 1) / 2;
    Values v[4];
    uint4 made[2];
    const auto load = [&](int slice) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (2 * slice + i / 2 < kMost) v[i] = load_values(4 * slice + i);
    };
    const auto make = [&](int slice) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const Values of_unit[2] = {v[2 * e], v[2 * e + 1]};
        if (2 * slice + e < kMost) made[e] = unit_bf16<kBias>(acc, 2 * slice + e, of_unit);
      }
    };
    if (units == 0) return;
    load(0);
    make(0);
    // A slice is on its way through shared memory while the next is computed.
#pragma unroll
    for (int slice = 0; slice < kSlices; ++slice) {
      if (2 * slice >= units) break;
      const uint32_t buffer = next_slice(toggle);
      if (slice + 1 < kSlices) load(slice + 1);
#pragma unroll
      for (int e = 0; e < 2; ++e)
        if (2 * slice + e < kMost) stage_bf16(made[e], buffer + e * (kSliceBytes / 2));
      ptx::named_barrier_sync(at.barrier(), 128);
      uint4 rows[2];
#pragma unroll
      for (int e = 0; e < 2; ++e)
        if (2 * slice + e < kMost) rows[e] = ptx::load_shared_v4(buffer + from + e * (kSliceBytes / 2));
      if (slice + 1 < kSlices) make(slice + 1);
#pragma unroll
      for (int e = 0; e < 2; ++e, to += step)
        if ((2 * slice + e) * kUnitTokens < tokens && 2 * slice + e < kMost) ptx::store_global_v4(to, rows[e]);
    }
  }
};

}  // namespace comet::cuda
