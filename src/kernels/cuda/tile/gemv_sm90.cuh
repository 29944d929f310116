// SPDX-License-Identifier: Apache-2.0
// GEMM of at most 16 tokens: a pure weight stream. A CTA owns whole strips of 16 rows, its warps split k (warp w takes the
// groups w, w + 8, ..), every warp feeds itself through a ring of units in shared memory, and mma.m16n8k32 multiplies.
// No reduction leaves the CTA. Half an SM, so that the next kernel's CTAs prefetch weights while this one ends.
#pragma once

#include "kernels/cuda/gemm_kernels_sm90.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/launch.cuh"
#include "kernels/cuda/tile/epilogue.cuh"
#include "kernels/cuda/tile/weights.cuh"

namespace comet::cuda {

constexpr int kGemvWarps = 8;
constexpr int kGemvThreads = kGemvWarps * 32;
constexpr int kMaxPassStrips = 4;

// Byte offsets in dynamic shared memory.
template <class Weights, int kBlocks>
struct GemvShared {
  static constexpr int kSlots = Weights::kUnitBytes > 1100 ? 4 : 8;  // units of one warp's ring
  static constexpr int kRingBytes = kSlots * Weights::kUnitBytes;
  static constexpr int kSumsAt = kGemvWarps * kRingBytes;
  static constexpr int kPartBytes = kMaxPassStrips * kBlocks * 32 * 16;  // one warp's accumulators of a pass
  static constexpr int kBarriersAt = kSumsAt + kGemvWarps * kPartBytes;
  static constexpr int kBytes = kBarriersAt + kGemvWarps * kSlots * 8;
};

// The order in which a warp meets its units: passes of strips, in a pass its groups, in a group the strips.
struct UnitCursor {
  int strip_end, pass_strips, groups, warp;
  int pass_first, pass_count, group, index;

  __device__ void begin_pass(int first) {
    pass_first = first, pass_count = min(pass_strips, strip_end - first);
    group = warp, index = 0;
  }
  __device__ bool done() const { return pass_first >= strip_end || warp >= groups; }
  __device__ void advance() {
    if (++index < pass_count) return;
    index = 0;
    group += kGemvWarps;
    if (group >= groups) begin_pass(pass_first + pass_strips);
  }
};

template <class Weights, int kBlocks>
struct Gemv {
  using Shared = GemvShared<Weights, kBlocks>;
  const GemmKernelArgs& args;
  uint32_t base;
  int warp, lane;

  __device__ uint32_t unit(int slot) const { return base + warp * Shared::kRingBytes + slot * Weights::kUnitBytes; }
  __device__ uint32_t full(int slot) const { return base + Shared::kBarriersAt + (warp * Shared::kSlots + slot) * 8; }
  __device__ uint32_t part(int of_warp, int index) const {
    return base + Shared::kSumsAt + of_warp * Shared::kPartBytes + index * 16;
  }

  __device__ void copy(const UnitCursor& c, int slot) const {
    if (lane != 0) return;
    const size_t from = static_cast<size_t>(c.pass_first + c.index) * args.schedule.groups + c.group;
    ptx::mbarrier_arrive_expect(full(slot), Weights::kUnitBytes);
    ptx::bulk_copy(unit(slot), args.weights + from * Weights::kUnitBytes, Weights::kUnitBytes, full(slot));
  }

  // The tokens of a group as column operands: x[block][half] holds words 4 half .. 4 half + 3.
  __device__ void load_tokens(int group, uint4 (&x)[kBlocks][2]) const {
    const int8_t* from = args.values + static_cast<size_t>(group) * padded_tokens(args.m) * kGroup + lane * 16;
#pragma unroll
    for (int block = 0; block < kBlocks; ++block)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        x[block][half] = block * kBlockTokens < args.m
                             ? *reinterpret_cast<const uint4*>(from + block * kBlockBytes + half * 512)
                             : uint4{0, 0, 0, 0};
  }

  static __device__ void multiply(int32_t (&acc)[kBlocks][4], const uint32_t (&a)[16], const uint4 (&x)[kBlocks][2]) {
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      Weights::mma(acc[block], a, x[block][0].x, x[block][0].y);
      Weights::mma(acc[block], a + 4, x[block][0].z, x[block][0].w);
      Weights::mma(acc[block], a + 8, x[block][1].x, x[block][1].y);
      Weights::mma(acc[block], a + 12, x[block][1].z, x[block][1].w);
    }
  }

  // Accumulators of region 1 times r.
  __device__ void scale_region1(int32_t (&acc)[kMaxPassStrips][kBlocks][4], const uint32_t (&r)[kBlocks][2]) const {
#pragma unroll
    for (int i = 0; i < kMaxPassStrips; ++i)
#pragma unroll
      for (int block = 0; block < kBlocks; ++block)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          acc[i][block][e] = static_cast<int32_t>(static_cast<uint32_t>(acc[i][block][e]) * r[block][e % 2]);
  }

  // Adds the warps' parts; every thread then finishes four outputs: rows g, g + 8 of one strip, two tokens.
  __device__ void finish(const UnitCursor& pass) const {
    const int index = warp * 32 + lane, block = warp % kBlocks, strip = warp / kBlocks;
    if (strip >= pass.pass_count) return;
    const int row0 = (pass.pass_first + strip) * kStripRows + lane / 4, token0 = block * kBlockTokens + lane % 4 * 2;
    Scaler<Weights::kOffset128> scaler;
    scaler.load(args, row0);
    uint32_t sum[4] = {0, 0, 0, 0};
#pragma unroll
    for (int w = 0; w < kGemvWarps; ++w) {
      const uint4 v = ptx::load_shared_v4(part(w, index));
      sum[0] += v.x, sum[1] += v.y, sum[2] += v.z, sum[3] += v.w;
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int token = token0 + e % 2, row = row0 + e / 2 * 8;
      if (token >= args.m || row >= args.n) continue;
      store(static_cast<size_t>(token) * args.n + row,
            scaler(static_cast<int32_t>(sum[e]), args.sums[token], args.scales[token], e / 2));
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
    const int strips = num_strips(args.n), cta = blockIdx.x, ctas = gridDim.x;
    const int strip_begin = static_cast<int>(static_cast<int64_t>(strips) * cta / ctas);
    UnitCursor ahead{static_cast<int>(static_cast<int64_t>(strips) * (cta + 1) / ctas), args.strips_per_pass,
                     args.schedule.groups, warp, 0, 0, 0, 0};
    ahead.begin_pass(strip_begin);
    UnitCursor pass = ahead;
    for (int slot = 0; slot < Shared::kSlots && !ahead.done(); ++slot, ahead.advance()) copy(ahead, slot);
    bool told = ahead.done();
    if (told) ptx::allow_next_kernel();
    ptx::wait_for_previous_kernel();
    uint32_t r[kBlocks][2];
#pragma unroll
    for (int i = 0; i < 2 * kBlocks; ++i) {
      const int token = i / 2 * kBlockTokens + lane % 4 * 2 + i % 2;
      r[i / 2][i % 2] = token < args.m ? args.factors[token] : 1;
    }
    int slot = 0;
    uint32_t parity = 0;
    for (; pass.pass_first < pass.strip_end; pass.begin_pass(pass.pass_first + pass.pass_strips)) {
      int32_t acc[kMaxPassStrips][kBlocks][4] = {};
      uint4 x[kBlocks][2], next[kBlocks][2];
      if (warp < args.schedule.groups) load_tokens(warp, x);
      for (int group = warp; group < args.schedule.groups; group += kGemvWarps) {
        if (group + kGemvWarps < args.schedule.groups) load_tokens(group + kGemvWarps, next);
#pragma unroll
        for (int i = 0; i < kMaxPassStrips; ++i) {
          if (i >= pass.pass_count) break;
          uint32_t a[16];
          ptx::mbarrier_wait(full(slot), parity);
          Weights::load(unit(slot), lane, a);
          __syncwarp();
          if (!ahead.done()) {
            copy(ahead, slot);
            ahead.advance();
          }
          if (++slot == Shared::kSlots) slot = 0, parity ^= 1u;
          multiply(acc[i], a, x);
        }
        if (!told && ahead.done()) ptx::allow_next_kernel(), told = true;
        if (group < args.num_int8_groups && group + kGemvWarps >= args.num_int8_groups) scale_region1(acc, r);
#pragma unroll
        for (int block = 0; block < kBlocks; ++block) x[block][0] = next[block][0], x[block][1] = next[block][1];
      }
#pragma unroll
      for (int i = 0; i < kMaxPassStrips; ++i)
#pragma unroll
        for (int block = 0; block < kBlocks; ++block) {
          const uint4 v = {static_cast<uint32_t>(acc[i][block][0]), static_cast<uint32_t>(acc[i][block][1]),
                           static_cast<uint32_t>(acc[i][block][2]), static_cast<uint32_t>(acc[i][block][3])};
          if (i < pass.pass_count) ptx::store_shared_v4(part(warp, (i * kBlocks + block) * 32 + lane), v);
        }
      __syncthreads();
      finish(pass);
      __syncthreads();
    }
  }
};

template <class Weights, int kBlocks>
__device__ __forceinline__ void gemv_sm90(const GemmKernelArgs& args) {
  using Shared = GemvShared<Weights, kBlocks>;
  extern __shared__ __align__(1024) uint8_t shared_bytes[];
  const uint32_t base = ptx::shared_address(shared_bytes);
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0), lane = threadIdx.x % 32;
  const Gemv<Weights, kBlocks> gemv{args, base, warp, lane};
  if (lane < Shared::kSlots) ptx::mbarrier_init(gemv.full(lane), 1);
  ptx::fence_mbarrier_init();
  __syncwarp();
  gemv.run();
}

}  // namespace comet::cuda
