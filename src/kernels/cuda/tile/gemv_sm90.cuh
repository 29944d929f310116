// SPDX-License-Identifier: Apache-2.0
// GEMM of at most 16 tokens: a pure weight stream. A CTA owns whole strips (16 rows) and takes up to four at a time, a
// pass. What a pass has of a group, a slab, is one bulk copy into a ring. Slab i is warp i % warps's: it multiplies
// (mma.m16n8k32) and asks for the slab that comes next in this place. The warps add up in shared memory; no reduction
// leaves the CTA. Half an SM, so that the next kernel's CTAs can prefetch meanwhile.
#pragma once

#include <cuda_bf16.h>

#include <algorithm>

#include "kernels/cuda/gemm_kernels_sm90.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/cp_async_sm80.cuh"
#include "kernels/cuda/ptx/launch.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/tile/scaled.cuh"
#include "kernels/cuda/tile/weights.cuh"

namespace comet::cuda {

constexpr int kPassRows = kPassStrips * kStripRows;

// Warps of a CTA at most: as many as registers allow, since one alone issues every fifth clock.
template <class Weights, int kBlocks>
constexpr int kGemvWarps = (Weights::kOffset128 && kBlocks == 1) ? 16 : 8;
constexpr int kGemvBoundCtas = ptx::kIsForRacecheck ? 1 : kGemvCtasPerSm;
template <class Weights, int kBlocks>
constexpr int kGemvThreads = kGemvWarps<Weights, kBlocks> * 32;

// Byte offsets in dynamic shared memory.
template <class Weights, int kBlocks>
struct GemvShared {
  static constexpr int kSumBytes = kPassStrips * kBlocks * 4 * 32 * 4;  // [strip][block][register][lane]
  static constexpr int kSumsAt = 0;                                     // of this pass and of the next
  static constexpr int kTokensAt = 2 * kSumBytes;                       // sums, scales
  static constexpr int kRowsAt = kTokensAt + 2 * kMaxGemvTokens * 4;    // of both passes: channel scales, bias
  static constexpr int kBarriersAt = kRowsAt + 2 * 2 * kPassRows * 4;
  static constexpr int kRingAt = kBarriersAt + kMostSlots * 8;
  static constexpr int kRingUnits = (113 * 1024 - kRingAt) / Weights::kUnitBytes;
  static constexpr int kBytes = kRingAt + kRingUnits * Weights::kUnitBytes;
};

// Of an SM, under way before this kernel's turn: some latency times bandwidth. What is more stands in the SM's queue in
// front of what the kernels wait for whose turn it is; where that is a quantize_act, which waits several times, less.
constexpr int kAheadBytes = 40 * 1024, kSpreadAheadBytes = 28 * 1024;
// No second CTA fits an SM.
constexpr int kSpreadSharedBytes = 116 * 1024;

template <class Weights, int kBlocks>
GemvShape gemv_shape(int n, const LaunchShape& shape) {
  const int ahead = (shape.is_spread ? kSpreadAheadBytes : kAheadBytes) / (shape.is_lone ? 1 : kGemvCtasPerSm);
  return gemv_shape(n, shape.ctas, GemvShared<Weights, kBlocks>::kRingUnits, kGemvWarps<Weights, kBlocks>,
                    ahead / Weights::kUnitBytes);
}

template <class Weights, int kBlocks>
struct Gemv {
  using Shared = GemvShared<Weights, kBlocks>;
  const GemmKernelArgs& args;
  uint32_t base;
  int cta, warp, lane;

  __device__ int groups() const { return args.schedule.groups; }
  __device__ uint32_t full(int slot) const { return base + Shared::kBarriersAt + slot * 8; }
  __device__ uint32_t place(int slot) const {
    return base + Shared::kRingAt + slot * args.gemv.slot_strips * Weights::kUnitBytes;
  }
  __device__ uint32_t sums(int pass) const { return base + Shared::kSumsAt + pass % 2 * Shared::kSumBytes; }

  // Where a slab comes from; slabs are numbered group by group, pass after pass.
  struct Slab {
    int pass, group;
  };
  __device__ Slab further(Slab s, int by) const {
    s.group += by;
    while (s.group >= groups()) s.group -= groups(), ++s.pass;
    return s;
  }
  __device__ __forceinline__ void copy(Slab s, int slot) const {
    if (lane != 0) return;
    const PassStrips strips = pass_strips(args.gemv, cta, s.pass);
    const uint32_t bytes = strips.count * Weights::kUnitBytes;
    ptx::mbarrier_arrive_expect(full(slot), bytes);
    ptx::bulk_copy_once(place(slot),
                        args.weights + static_cast<size_t>(s.group) * args.group_bytes +
                            static_cast<uint32_t>(strips.first) * Weights::kUnitBytes,
                        bytes, full(slot), ptx::read_once());
  }

  // Where this warp has no more than rounds_left slabs to ask for, from `ahead` on. Saying it again changes nothing.
  __device__ __forceinline__ void allow_next(Slab ahead) const {
    if (further(ahead, args.gemv.rounds_left * args.gemv.warps).pass >= args.gemv.passes) ptx::allow_next_kernel();
  }

  // A group's tokens as column operands: x[block][half] holds words 4 half .. 4 half + 3.
  __device__ __forceinline__ void load_tokens(int group, uint4 (&x)[kBlocks][2]) const {
    const int8_t* from = args.values + static_cast<size_t>(group) * (kBlocks * kBlockBytes) + lane * 16;
#pragma unroll
    for (int block = 0; block < kBlocks; ++block)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        x[block][half] = *reinterpret_cast<const uint4*>(from + block * kBlockBytes + half * 512);
  }
  static __device__ void multiply(int32_t (&acc)[kBlocks][4], const uint32_t (&a)[16], const uint4 (&x)[kBlocks][2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        Weights::mma(acc[block], a + 8 * half, x[block][half].x, x[block][half].y);
        Weights::mma(acc[block], a + 8 * half + 4, x[block][half].z, x[block][half].w);
      }
  }
  // A group's tokens times a slab.
  __device__ __forceinline__ void multiply_slab(int32_t (&acc)[kPassStrips][kBlocks][4], const uint4 (&x)[kBlocks][2],
                                                uint32_t slab, int strips) const {
#pragma unroll
    for (int i = 0; i < kPassStrips; i += 2) {
      if (i >= strips) break;
      uint32_t a[16];
      const typename Weights::Raw first = Weights::fetch(slab + i * Weights::kUnitBytes, lane);
      if (i + 1 < strips) {  // side by side
        const typename Weights::Raw second = Weights::fetch(slab + (i + 1) * Weights::kUnitBytes, lane);
        uint32_t b[16];
        Weights::unpack(first, a);
        Weights::unpack(second, b);
        multiply(acc[i], a, x);
        multiply(acc[i + 1], b, x);
      } else {
        Weights::unpack(first, a);
        multiply(acc[i], a, x);
      }
    }
  }

  // Accumulators of region 1 times r.
  static __device__ void scale_region1(int32_t (&acc)[kPassStrips][kBlocks][4], const uint32_t (&r)[kBlocks][2]) {
#pragma unroll
    for (int i = 0; i < kPassStrips; ++i)
#pragma unroll
      for (int block = 0; block < kBlocks; ++block)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          acc[i][block][e] = static_cast<int32_t>(static_cast<uint32_t>(acc[i][block][e]) * r[block][e % 2]);
  }

  // What outputs need comes into shared memory without a register: of all tokens, and of a pass's rows.
  __device__ uint32_t token_sum(int token) const { return base + Shared::kTokensAt + token * 4; }
  __device__ uint32_t token_scale(int token) const { return token_sum(kMaxGemvTokens + token); }
  __device__ uint32_t channel_scale(int pass, int row) const {
    return base + Shared::kRowsAt + (pass % 2 * 2 * kPassRows + row) * 4;
  }
  __device__ uint32_t channel_bias(int pass, int row) const { return channel_scale(pass, kPassRows + row); }
  __device__ void ask_for_tokens() const {
    const int token = threadIdx.x;
    if (token >= args.m) return;
    ptx::cp_async_4(token_sum(token), args.sums + token);
    ptx::cp_async_4(token_scale(token), args.scales + token);
  }
  __device__ void ask_for_rows(int pass, PassStrips strips) const {
    const int row = threadIdx.x, d_row = strips.first * kStripRows + row;
    if (row >= kPassRows || d_row >= args.n) return;
    ptx::cp_async_4(channel_scale(pass, row), args.channel_scales + d_row);
    if (args.bias != nullptr) ptx::cp_async_4(channel_bias(pass, row), args.bias + d_row);
  }

  __device__ void finish(int pass, PassStrips strips) const {
    const uint32_t outputs = kPassRows * kBlocks * kBlockTokens;
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < outputs; i += args.gemv.warps * 32) {
      const uint32_t row = i % kPassRows, strip = row / kStripRows, token = i / kPassRows, block = token / kBlockTokens;
      if (static_cast<int>(strip) >= strips.count) continue;
      const uint32_t reg = row / 8 % 2 * 2 + token % 2, of_lane = row % 8 * 4 + token % kBlockTokens / 2;
      const uint32_t at = sums(pass) + ((strip * kBlocks + block) * 4 + reg) * 128 + of_lane * 4;
      const int32_t acc = static_cast<int32_t>(ptx::load_shared_u32(at));
      ptx::store_shared_u32(at, 0);  // for the pass after the next
      const int d_row = strips.first * kStripRows + static_cast<int>(row);
      if (static_cast<int>(token) >= args.m || d_row >= args.n) continue;
      float y = scaled<Weights::kOffset128>(acc, ptx::load_shared_u32(token_sum(token)),
                                            ptx::load_shared_float(token_scale(token)),
                                            ptx::load_shared_float(channel_scale(pass, row)));
      if (args.bias != nullptr) y = __fadd_rn(y, ptx::load_shared_float(channel_bias(pass, row)));
      store(static_cast<size_t>(token) * args.n + d_row, y);
    }
  }
  __device__ void store(size_t at, float y) const {
    switch (args.output) {
      case GemmOutput::bf16: static_cast<__nv_bfloat16*>(args.d)[at] = __float2bfloat16_rn(y); break;
      case GemmOutput::f32: static_cast<float*>(args.d)[at] = y; break;
      case GemmOutput::add_f32: static_cast<float*>(args.d)[at] = __fadd_rn(static_cast<float*>(args.d)[at], y); break;
    }
  }

  __device__ void run() const {
    const int warps = args.gemv.warps, passes = args.gemv.passes, slots = args.gemv.slots, slabs = passes * groups();
    Slab slab = further({0, 0}, warp), ahead = slab;
    // Few at a time: what the kernel in front asks for about now would queue behind all of them (8B o: 5.0 us for 4.0).
    for (int i = warp; i < min(slots, slabs); i += warps, ahead = further(ahead, warps)) {
      if (i >= args.gemv.window) ptx::mbarrier_wait_briefly(full(i - args.gemv.window), 0);
      copy(ahead, i);
    }
    allow_next(ahead);
    ptx::wait_for_previous_kernel();

    uint4 x[kBlocks][2];
    load_tokens(slab.group, x);
    uint32_t r[kBlocks][2];
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        const int token = block * kBlockTokens + lane % 4 * 2 + i;
        r[block][i] = token < args.m ? args.factors[token] : 1;
      }
    ask_for_tokens();
    int slot = warp;
    uint32_t parity = 0;
#pragma unroll 1
    for (int pass = 0; pass < passes; ++pass) {
      const PassStrips strips = pass_strips(args.gemv, cta, pass);
      ask_for_rows(pass, strips);
      ptx::cp_async_commit();
      int32_t acc[kPassStrips][kBlocks][4] = {};
#pragma unroll 1
      while (slab.pass == pass) {
        const Slab next = further(slab, warps);
        uint4 y[kBlocks][2];
        load_tokens(next.group, y);
        ptx::mbarrier_wait(full(slot), parity);
        multiply_slab(acc, x, place(slot), strips.count);
        // Only behind the products is it certain that the loads from the ring have come back: the copy engine does
        // not wait for them (issued in front, a refill overtook them once in a million).
        __syncwarp();
        if (ahead.pass < passes) {
          copy(ahead, slot);
          ahead = further(ahead, warps);
          allow_next(ahead);
        }
        slot += warps;
        if (slot >= slots) slot -= slots, parity ^= 1u;
        if (slab.group < args.num_int8_groups && (next.pass != pass || next.group >= args.num_int8_groups))
          scale_region1(acc, r);
        slab = next;
#pragma unroll
        for (int block = 0; block < kBlocks; ++block)
#pragma unroll
          for (int half = 0; half < 2; ++half) x[block][half] = y[block][half];
      }
      const uint32_t to = sums(pass) + lane * 4;
#pragma unroll
      for (int i = 0; i < kPassStrips; ++i)
        if (i < strips.count)
#pragma unroll
          for (int block = 0; block < kBlocks; ++block)
#pragma unroll
            for (int e = 0; e < 4; ++e)
              ptx::reduce_add_shared(to + ((i * kBlocks + block) * 4 + e) * 128,
                                     static_cast<uint32_t>(acc[i][block][e]));
      ptx::cp_async_wait<0>();
      __syncthreads();
      finish(pass, strips);
    }
  }
};

template <class Weights, int kBlocks>
__device__ __forceinline__ void gemv_sm90(const GemmKernelArgs& args) {
  using Shared = GemvShared<Weights, kBlocks>;
  extern __shared__ __align__(1024) char shared[];
  const uint32_t base = ptx::shared_address(shared);
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0), lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    for (int slot = 0; slot < args.gemv.slots; ++slot) ptx::mbarrier_init(base + Shared::kBarriersAt + slot * 8, 1);
    ptx::fence_mbarrier_init();
  }
  for (int i = threadIdx.x * 4; i < 2 * Shared::kSumBytes; i += args.gemv.warps * 128)
    ptx::store_shared_u32(base + Shared::kSumsAt + i, 0);
  __syncthreads();
  Gemv<Weights, kBlocks>{args, base, static_cast<int>(blockIdx.x), warp, lane}.run();
}

template <class Weights, int kBlocks>
void launch_gemv(void (*kernel)(GemmKernelArgs), GemmKernelArgs args, const GemvShape& gemv, const LaunchShape& shape) {
  constexpr int kShared = GemvShared<Weights, kBlocks>::kBytes;
  static_assert((kShared + 1024) * kGemvCtasPerSm <= 228 * 1024, "CTAs do not fit an SM");
  static_assert((kSpreadSharedBytes + 1024) * 2 > 228 * 1024, "two CTAs fit an SM");
  static const bool allowed = (allow_shared_bytes(kernel, kSpreadSharedBytes), true);
  static_cast<void>(allowed);
  args.gemv = gemv;
  launch_dependent(kernel, {shape.ctas, gemv.warps * 32, shape.is_spread ? kSpreadSharedBytes : kShared, shape.stream},
                   args);
}
template <class Weights, int kBlocks>
void launch_gemv(void (*kernel)(GemmKernelArgs), const GemmKernelArgs& args, const LaunchShape& shape) {
  launch_gemv<Weights, kBlocks>(kernel, args, gemv_shape<Weights, kBlocks>(args.n, shape), shape);
}

}  // namespace comet::cuda
