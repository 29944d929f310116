// SPDX-License-Identifier: Apache-2.0
// GEMM of at most 16 tokens: a pure weight stream. A CTA owns whole strips (16 rows), its warps split k (warp w takes
// the groups w, w + 8, ..), every warp feeds itself through a ring of chunks (a pair of strips, or what the CTA owns of
// it, x a group: one bulk copy) in shared memory, and mma.m16n8k32 multiplies. No reduction leaves the CTA. Half an SM,
// so that the next kernel's CTAs can prefetch meanwhile.
#pragma once

#include "kernels/cuda/gemm_kernels_sm90.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/launch.cuh"
#include "kernels/cuda/tile/epilogue.cuh"
#include "kernels/cuda/tile/ring.cuh"
#include "kernels/cuda/tile/weights.cuh"

namespace comet::cuda {

constexpr int kGemvWarps = 8;
constexpr int kGemvThreads = kGemvWarps * 32;
constexpr int kGemvCtasPerSm = 2;
constexpr int kPair = 2;          // strips of a chunk
constexpr int kMaxPassPairs = 2;  // that a CTA computes together
constexpr int kMaxPassStrips = kPair * kMaxPassPairs;

// Of a row's first groups, those that a warp takes: warp, warp + kGemvWarps, .. None: 0 or less.
__device__ __forceinline__ int steps_of_warp(int groups, int warp) {
  return (groups - warp + kGemvWarps - 1) / kGemvWarps;
}

// Byte offsets in dynamic shared memory.
template <class Weights, int kBlocks>
struct GemvShared {
  static constexpr int kSlotBytes = kPair * Weights::kUnitBytes;
  static constexpr int kSlots = Weights::kUnitBytes > 1100 ? 2 : 6 - kBlocks;  // of one warp's ring
  static constexpr int kRingBytes = kSlots * kSlotBytes;
  static constexpr int kSumsAt = kGemvWarps * kRingBytes;
  static constexpr int kPartBytes = kMaxPassStrips * kBlocks * 32 * 16;  // one warp's accumulators of a pass
  static constexpr int kBarriersAt = kSumsAt + kGemvWarps * kPartBytes;
  static constexpr int kBytes = kBarriersAt + kGemvWarps * kSlots * 8;
};

template <class Weights, int kBlocks, bool kAligned>
struct Gemv {
  using Shared = GemvShared<Weights, kBlocks>;
  const GemmKernelArgs& args;
  uint32_t base;
  int warp, lane;
  int strip_begin, strip_end;  // of this CTA
  int steps;                   // groups of this warp

  // kAligned: every CTA has whole pairs.
  __device__ bool owns(int strip) const { return kAligned || (strip >= strip_begin && strip < strip_end); }
  __device__ uint32_t place(int slot) const { return base + warp * Shared::kRingBytes + slot * Shared::kSlotBytes; }
  __device__ uint32_t full(int slot) const { return base + Shared::kBarriersAt + (warp * Shared::kSlots + slot) * 8; }
  __device__ uint32_t part(int of_warp, int index) const {
    return base + Shared::kSumsAt + of_warp * Shared::kPartBytes + index * 16;
  }

  // A warp's chunks on their way into the ring: passes of pairs, in a pass this warp's groups (steps), in a step the
  // pairs. Sources move on by a constant inside a pass.
  struct Feeder {
    int first_pair, pairs, steps_left;  // of the pass; no pairs: everything has been asked for
    bool is_second;                     // pair of the step
    const uint8_t* from[kMaxPassPairs];
    uint64_t once;
  };
  __device__ int pass_pairs(int first_pair) const {
    return min(kMaxPassPairs, (strip_end + kPair - 1) / kPair - first_pair);
  }
  __device__ void begin_pass(Feeder& f, int first_pair) const {
    f.first_pair = first_pair, f.pairs = max(0, pass_pairs(first_pair)), f.steps_left = steps, f.is_second = false;
#pragma unroll
    for (int i = 0; i < kMaxPassPairs; ++i) {
      const int pair = (first_pair + i) * kPair, first = kAligned ? pair : max(pair, strip_begin);
      f.from[i] = args.weights + static_cast<size_t>(warp) * args.group_bytes + first * Weights::kUnitBytes;
    }
  }
  __device__ __forceinline__ void copy(Feeder& f, int slot) const {
    static_assert(kMaxPassPairs == 2);
    const int begin = (f.first_pair + (f.is_second ? 1 : 0)) * kPair,
              first = kAligned ? begin : max(begin, strip_begin);
    const int last = kAligned ? begin + kPair : min(begin + kPair, strip_end);
    const uint32_t bytes = (last - first) * Weights::kUnitBytes;
    const uint32_t skipped = (first - begin) * Weights::kUnitBytes;  // of the slot, what belongs to another CTA
    const uint8_t* const from = f.is_second ? f.from[1] : f.from[0];
    if (lane == 0) {
      ptx::mbarrier_arrive_expect(full(slot), bytes);
      ptx::bulk_copy_once(place(slot) + skipped, from, bytes, full(slot), f.once);
    }
    f.is_second = !f.is_second && f.pairs > 1;
    if (f.is_second) return;
#pragma unroll
    for (int i = 0; i < kMaxPassPairs; ++i) f.from[i] += kGemvWarps * args.group_bytes;
    if (--f.steps_left > 0) return;
    begin_pass(f, f.first_pair + kMaxPassPairs);
    if (f.pairs == 0) ptx::allow_next_kernel();
  }

  // Tokens of this warp's steps, which come round again in every pass.
  struct TokenCursor {
    const int8_t* next;
    int steps_left;
  };
  __device__ const int8_t* first_tokens() const {
    return args.values + static_cast<size_t>(warp) * kBlocks * kBlockBytes + lane * 16;
  }
  // The tokens of the next step as column operands: x[block][half] holds words 4 half .. 4 half + 3.
  __device__ __forceinline__ void load_tokens(TokenCursor& c, uint4 (&x)[kBlocks][2]) const {
#pragma unroll
    for (int block = 0; block < kBlocks; ++block)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        x[block][half] = *reinterpret_cast<const uint4*>(c.next + block * kBlockBytes + half * 512);
    c.next += static_cast<size_t>(kGemvWarps) * kBlocks * kBlockBytes;
    if (--c.steps_left == 0) c.next = first_tokens(), c.steps_left = steps;
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

  // A strip's accumulators of region 1 times r.
  static __device__ void scale_region1(int32_t (&acc)[kBlocks][4], const uint32_t (&r)[kBlocks][2]) {
#pragma unroll
    for (int block = 0; block < kBlocks; ++block)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        acc[block][e] = static_cast<int32_t>(static_cast<uint32_t>(acc[block][e]) * r[block][e % 2]);
  }

  // What a thread needs for the outputs that it finishes in every pass: rows g and g + 8 of strip warp / kBlocks, two
  // tokens.
  struct Finish {
    uint32_t sum[2];
    float scale[2];
    Scaler<Weights::kOffset128> scaler;
  };
  __device__ int finish_token() const { return warp % kBlocks * kBlockTokens + lane % 4 * 2; }
  __device__ int finish_strip(int pass_first) const { return pass_first * kPair + warp / kBlocks; }
  __device__ int finish_row(int pass_first) const { return finish_strip(pass_first) * kStripRows + lane / 4; }

  // Adds the warps' parts; every thread then finishes four outputs.
  __device__ void finish(int pass_first, int pass_count, const Finish& f) const {
    if (warp / kBlocks >= pass_count * kPair || !owns(finish_strip(pass_first))) return;
    uint32_t sum[4] = {0, 0, 0, 0};
#pragma unroll
    for (int w = 0; w < kGemvWarps; ++w) {
      const uint4 v = ptx::load_shared_v4(part(w, warp * 32 + lane));
      sum[0] += v.x, sum[1] += v.y, sum[2] += v.z, sum[3] += v.w;
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int token = finish_token() + e % 2, row = finish_row(pass_first) + e / 2 * 8;
      if (token < args.m && row < args.n)
        store(static_cast<size_t>(token) * args.n + row,
              f.scaler.apply(static_cast<int32_t>(sum[e]), f.sum[e % 2], f.scale[e % 2], e / 2));
    }
  }

  __device__ void store(size_t at, float y) const {
    switch (args.output) {
      case GemmOutput::bf16: static_cast<__nv_bfloat16*>(args.d)[at] = __float2bfloat16_rn(y); break;
      case GemmOutput::f32: static_cast<float*>(args.d)[at] = y; break;
      case GemmOutput::add_f32: static_cast<float*>(args.d)[at] = __fadd_rn(static_cast<float*>(args.d)[at], y); break;
    }
  }

  // A group's tokens times the chunks of a pass.
  __device__ __forceinline__ void multiply_group(int32_t (&acc)[kMaxPassStrips][kBlocks][4],
                                                 const uint4 (&x)[kBlocks][2], int first_pair, int pairs, Feeder& ahead,
                                                 RingCursor<Shared::kSlots>& ring) const {
#pragma unroll
    for (int i = 0; i < kMaxPassPairs; ++i) {
      if (i >= pairs) break;
      const int strip = (first_pair + i) * kPair;
      ptx::mbarrier_wait(full(ring.slot), ring.parity);
      typename Weights::Raw raw[kPair];
#pragma unroll
      for (int j = 0; j < kPair; ++j) raw[j] = Weights::fetch(place(ring.slot) + j * Weights::kUnitBytes, lane);
      const auto add_strip = [&](int j) {
        uint32_t a[16];
        Weights::unpack(raw[j], a);
        multiply(acc[i * kPair + j], a, x);
      };
      const bool has_first = owns(strip), has_second = owns(strip + 1);
      if (has_first && has_second) {  // side by side
        add_strip(0);
        add_strip(1);
      } else {
        has_first ? add_strip(0) : add_strip(1);
      }
      // Only behind the products is it certain that the loads from the ring have come back: the copy engine does
      // not wait for them (issued in front, a refill overtook them once in a million).
      __syncwarp();
      if (ahead.pairs > 0) copy(ahead, ring.slot);
      ring.advance();
    }
  }

  __device__ void run() const {
    const int end_pair = (strip_end + kPair - 1) / kPair;
    Feeder ahead;
    ahead.once = ptx::read_once();
    begin_pass(ahead, strip_begin / kPair);
    if (steps == 0) ahead.pairs = 0;
    if (steps == 0 || args.is_next_early) ptx::allow_next_kernel();
    // One after the other has come: the tokens of the kernel in front, which start about now, would queue behind all of
    // them (8B o: 5.0 us for 4.0).
    for (int slot = 0; slot < Shared::kSlots && ahead.pairs > 0; ++slot) {
      if (slot > 0) ptx::mbarrier_wait(full(slot - 1), 0);
      copy(ahead, slot);
    }
    TokenCursor cursor{first_tokens(), steps};
    ptx::wait_for_previous_kernel();

    uint4 x[2][kBlocks][2];  // of this step and of the next
    if (steps > 0) {
      load_tokens(cursor, x[0]);
      load_tokens(cursor, x[1]);
    }
    uint32_t r[kBlocks][2];
    Finish f;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
        const int token = block * kBlockTokens + lane % 4 * 2 + i;
        r[block][i] = token < args.m ? args.factors[token] : 1;
      }
      const int token = finish_token() + i;
      f.sum[i] = token < args.m ? args.sums[token] : 0u;
      f.scale[i] = token < args.m ? args.scales[token] : 0.0f;
    }
    RingCursor<Shared::kSlots> ring;
    const int region1_steps = steps_of_warp(args.num_int8_groups, warp);
    for (int first_pair = strip_begin / kPair; first_pair < end_pair; first_pair += kMaxPassPairs) {
      const int pairs = pass_pairs(first_pair);
      int32_t acc[kMaxPassStrips][kBlocks][4] = {};
      f.scaler.load(args, finish_row(first_pair));
      const auto step = [&](int number, uint4(&of)[kBlocks][2]) {
        multiply_group(acc, of, first_pair, pairs, ahead, ring);
        load_tokens(cursor, of);
        if (number == region1_steps)
#pragma unroll
          for (int i = 0; i < kMaxPassStrips; ++i) scale_region1(acc[i], r);
      };
      int number = 1;
#pragma unroll 1
      for (; number < steps; number += 2) {
        step(number, x[0]);
        step(number + 1, x[1]);
      }
      if (number == steps) {  // the other one comes first in the next pass
        step(number, x[0]);
#pragma unroll
        for (int block = 0; block < kBlocks; ++block)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const uint4 kept = x[0][block][half];
            x[0][block][half] = x[1][block][half], x[1][block][half] = kept;
          }
      }
#pragma unroll
      for (int i = 0; i < kMaxPassStrips; ++i)
#pragma unroll
        for (int block = 0; block < kBlocks; ++block) {
          const uint4 v = {static_cast<uint32_t>(acc[i][block][0]), static_cast<uint32_t>(acc[i][block][1]),
                           static_cast<uint32_t>(acc[i][block][2]), static_cast<uint32_t>(acc[i][block][3])};
          if (i < pairs * kPair) ptx::store_shared_v4(part(warp, (i * kBlocks + block) * 32 + lane), v);
        }
      __syncthreads();
      finish(first_pair, pairs, f);
      __syncthreads();
    }
  }
};

template <class Weights, int kBlocks, bool kAligned>
__device__ __forceinline__ void gemv_sm90(const GemmKernelArgs& args) {
  using Shared = GemvShared<Weights, kBlocks>;
  extern __shared__ __align__(1024) uint8_t shared_bytes[];
  const uint32_t base = ptx::shared_address(shared_bytes);
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0), lane = threadIdx.x % 32;
  const int strips = num_strips(args.n), cta = blockIdx.x;
  const Gemv<Weights, kBlocks, kAligned> gemv{args,
                                              base,
                                              warp,
                                              lane,
                                              strips * cta / args.ctas,
                                              strips * (cta + 1) / args.ctas,
                                              steps_of_warp(args.schedule.groups, warp)};
  if (lane == 0) {
    for (int slot = 0; slot < Shared::kSlots; ++slot) ptx::mbarrier_init(gemv.full(slot), 1);
    ptx::fence_mbarrier_init();
  }
  __syncwarp();
  gemv.run();
}

}  // namespace comet::cuda
