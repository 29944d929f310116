// SPDX-License-Identifier: Apache-2.0
// The persistent GEMM of Ampere and Ada: 4 warps, a ring of cp.async stages that runs on over tiles, steps of three
// kinds.
#pragma once

#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/cp_async_sm80.cuh"
#include "kernels/cuda/tile/epilogue_sm80.cuh"
#include "kernels/cuda/tile/steps_sm80.cuh"

namespace comet::cuda {

constexpr int kGemmThreadsSm80 = 128;

// A tile of 128 rows x kTileM tokens, shared by 4 warps as kWarpsN x kWarpsM.
template <int kTileTokens, int kRowWarps, int kNumStages>
struct TileSm80 {
  static constexpr int kTileM = kTileTokens, kStages = kNumStages, kWarpsN = kRowWarps;
  static constexpr int kWarpsM = kGemmThreadsSm80 / 32 / kWarpsN;
  static constexpr int kUnits = kTileRowsSm80 / 16 / kWarpsN, kBlocks = kTileM / 8 / kWarpsM;
  // A stage: [codes | parameter bytes | multipliers | tokens]
  static constexpr int kMultipliersAt = kParamsAtSm80 + 128;
  static constexpr int kTokensAt = kMultipliersAt + kTileM;
  static constexpr int kStageBytes = kTokensAt + kTileM * kSlabTokenBytes;
  static constexpr int kBytes = kStages * kStageBytes;
  static_assert(4 * EpilogueSm80<kUnits, kBlocks>::kWarpBytes <= kStageBytes, "a stage holds the staged outputs");
  static_assert(kTileM % kTokenPadSm80 == 0 && kStageBytes % 16 == 0);
};

// Copies the steps of this CTA's work into the ring, ahead of the products and across tiles. A segment is a run of
// steps of one kind in one tile; inside it the sources of this thread's pieces move on by constants.
template <class Tile>
struct LoaderSm80 {
  static constexpr int kRound = kGemmThreadsSm80 * 16;  // bytes that all threads copy together
  const GemmKernelArgsSm80& args;
  WorkQueue queue;
  Work work;
  int step = 0, segment_end = 0;
  StepKind kind = StepKind::int4;
  int chunks = 0;        // pieces of 16 bytes of the tile's part of a slab
  uint32_t base, stage;  // shared addresses of this thread's part of the ring and of the next stage
  uint32_t side_at;      // where in a stage this thread puts its piece of parameter bytes or multipliers
  bool any, has_side = false;
  const uint8_t* codes = nullptr;
  const uint8_t* side = nullptr;  // parameter bytes: threads 0..7; multipliers: from thread 32
  const int8_t* slab = nullptr;

  __device__ LoaderSm80(const GemmKernelArgsSm80& kernel_args, uint32_t ring)
      : args(kernel_args), queue(make_queue(args.schedule, blockIdx.x, gridDim.x)), base(ring + threadIdx.x * 16) {
    stage = base;
    side_at = threadIdx.x < 32 ? kParamsAtSm80 : Tile::kMultipliersAt - 32 * 16;
    any = next_work(queue, work);
    if (any) enter_segment(work.begin);
  }

  __device__ int padded() const { return padded_tokens_sm80(args.m); }

  __device__ void enter_segment(int first_step) {
    const StepsSm80& s = args.steps;
    const int thread = threadIdx.x, tiles_m = args.schedule.tiles_m;
    step = first_step;
    kind = step_kind(s, step);
    const int zero_end = s.int8_steps + s.zero_steps;
    segment_end = kind == StepKind::int8 ? s.int8_steps : kind == StepKind::zero ? zero_end : s.total;
    segment_end = min(segment_end, work.end);
    const int group = kind == StepKind::int8 ? step / 2 : step - zero_end + s.int8_groups;
    const int token0 = work.tile % tiles_m * Tile::kTileM;
    const uint8_t* tile = args.weights + work.tile / tiles_m * row_tile_bytes_sm80(s.groups * kGroup);
    const uint8_t* block = tile + static_cast<size_t>(group) * kGroupBytesSm80;
    if (kind == StepKind::zero)
      codes = tile + static_cast<size_t>(s.groups) * kGroupBytesSm80 +
              static_cast<size_t>(s.first_zero + step - s.int8_steps) * kZeroBytesSm80;
    else
      codes = block + (kind == StepKind::int8 ? step % 2 * kHalfBytesSm80 : 0);
    codes += thread * 16;
    slab = args.slabs + (static_cast<size_t>(step) * padded() + token0) * kSlabTokenBytes + thread * 16;
    chunks = min(Tile::kTileM, padded() - token0) * (kSlabTokenBytes / 16);
    if (thread < 32) {
      side = block + kParamsAtSm80 + thread * 16;
      has_side = thread < 8 && kind != StepKind::zero;
    } else {
      side = args.multipliers + static_cast<size_t>(group) * padded() + token0 + (thread - 32) * 16;
      has_side = thread - 32 < chunks / kSlabTokenBytes && kind == StepKind::int4;
    }
  }

  __device__ __forceinline__ void copy_step() const {
#pragma unroll
    for (int i = 0; i < 2 * kHalfBytesSm80 / kRound; ++i)
      if (i < kHalfBytesSm80 / kRound || kind == StepKind::int4)
        ptx::cp_async_16(stage + i * kRound, codes + i * kRound);
#pragma unroll
    for (int i = 0; i * kRound < Tile::kTileM * kSlabTokenBytes; ++i)
      if (static_cast<int>(threadIdx.x) + i * kGemmThreadsSm80 < chunks)
        ptx::cp_async_16(stage + Tile::kTokensAt + i * kRound, slab + i * kRound);
    if (has_side) ptx::cp_async_16(stage + side_at, side);
  }

  __device__ __forceinline__ void advance() {
    stage += Tile::kStageBytes;
    if (stage == base + Tile::kBytes) stage = base;
    if (++step == segment_end) {
      if (step == work.end) {
        any = next_work(queue, work);
        step = work.begin;
      }
      if (any) enter_segment(step);
      return;
    }
    slab += padded() * kSlabTokenBytes;
    if (kind == StepKind::int4) {
      codes += kGroupBytesSm80;
      side += threadIdx.x < 32 ? kGroupBytesSm80 : padded();
    } else if (kind == StepKind::zero) {
      codes += kZeroBytesSm80;
    } else {
      codes += step % 2 != 0 ? kHalfBytesSm80 : kGroupBytesSm80 - kHalfBytesSm80;
      side += step % 2 != 0 ? 0 : kGroupBytesSm80;
    }
  }

  // One group of copies, empty behind the last step.
  __device__ __forceinline__ void next() {
    if (any) {
      copy_step();
      advance();
    }
    ptx::cp_async_commit();
  }
};

template <class Tile>
struct GemmSm80 {
  using Accumulators = AccumulatorsSm80<Tile::kUnits, Tile::kBlocks>;
  const GemmKernelArgsSm80& args;
  uint32_t base;
  int lane, warp_n, warp_m;

  __device__ GemmSm80(const GemmKernelArgsSm80& kernel_args, uint32_t shared_base)
      : args(kernel_args), base(shared_base) {
    lane = threadIdx.x % 32, warp_n = threadIdx.x / 32 % Tile::kWarpsN, warp_m = threadIdx.x / 32 / Tile::kWarpsN;
  }

  // An int: a FastDivisor's quotient takes a register more, which the tile of 64 does not have.
  __device__ int tiles_m() const { return args.schedule.tiles_m; }
  __device__ int first_token(int tile) const { return tile % tiles_m() * Tile::kTileM + warp_m * Tile::kBlocks * 8; }
  __device__ int first_row(int tile) const { return tile / tiles_m() * kTileRowsSm80 + warp_n * Tile::kUnits * 16; }

  __device__ __forceinline__ void compute(Accumulators& acc, int step, uint32_t stage) const {
    const StepOperands at{stage + warp_n * Tile::kUnits * kStripBytesSm80 + lane * 16,
                          stage + kParamsAtSm80 + warp_n * Tile::kUnits * 16 + lane / 4 * 2,
                          stage + Tile::kMultipliersAt + warp_m * Tile::kBlocks * 8 + lane % 4 * 2,
                          stage + Tile::kTokensAt + warp_m * Tile::kBlocks * 512 + lane * 16};
    switch (step_kind(args.steps, step)) {
      case StepKind::int8: int8_step<Tile::kUnits, Tile::kBlocks>(acc, at); break;
      case StepKind::zero: zero_step<Tile::kUnits, Tile::kBlocks>(acc, at); break;
      case StepKind::int4: int4_step<Tile::kUnits, Tile::kBlocks>(acc, at); break;
    }
  }

  // The accumulators of region 1 times r.
  __device__ __forceinline__ void scale_region1(Accumulators& acc, int tile) const {
#pragma unroll
    for (int j = 0; j < Tile::kBlocks; ++j) {
      const int token = first_token(tile) + 8 * j + lane % 4 * 2;
      const int r0 = token < args.m ? args.factors[token] : 0, r1 = token + 1 < args.m ? args.factors[token + 1] : 0;
#pragma unroll
      for (int u = 0; u < Tile::kUnits; ++u) acc[u][j].x *= r0, acc[u][j].y *= r1, acc[u][j].z *= r0, acc[u][j].w *= r1;
    }
  }

  // Leaves this CTA's part of a split tile; true for the last to arrive, which then holds the whole sum.
  __device__ __forceinline__ bool reduce(Accumulators& acc, int tile) const {
    const Schedule& s = args.schedule;
    const int split = tile - s.full_tiles, self = blockIdx.x;
    constexpr int kPart = Tile::kUnits * Tile::kBlocks * kGemmThreadsSm80;
    auto part = [&](int cta) { return args.partials + partial_slot(s, cta, split) * kPart + threadIdx.x; };
    int4* mine = part(self);
#pragma unroll
    for (int u = 0; u < Tile::kUnits; ++u)
#pragma unroll
      for (int j = 0; j < Tile::kBlocks; ++j) mine[(u * Tile::kBlocks + j) * kGemmThreadsSm80] = acc[u][j];
    const int first = first_contributor(s, split), last = last_contributor(s, split);
    __syncthreads();
    bool is_last = false;
    if (threadIdx.x == 0) {
      is_last = ptx::atomic_add_acq_rel(args.counters + split, 1) == static_cast<uint32_t>(last - first);
      if (is_last) args.counters[split] = 0;
    }
    if (!__syncthreads_or(is_last)) return false;
    for (int cta = first; cta <= last; ++cta) {
      if (cta == self) continue;
      const int4* other = part(cta);
#pragma unroll
      for (int u = 0; u < Tile::kUnits; ++u)
#pragma unroll
        for (int j = 0; j < Tile::kBlocks; ++j) {
          const int4 v = ptx::load_global_l2(other + (u * Tile::kBlocks + j) * kGemmThreadsSm80);
          acc[u][j].x += v.x, acc[u][j].y += v.y, acc[u][j].z += v.z, acc[u][j].w += v.w;
        }
    }
    return true;
  }

  __device__ void run() const {
    LoaderSm80<Tile> loader(args, base);
#pragma unroll 1
    for (int i = 0; i < Tile::kStages - 1; ++i) loader.next();
    WorkQueue queue = make_queue(args.schedule, blockIdx.x, gridDim.x);
    const int region1_end = 2 * args.steps.int8_groups;
    uint32_t stage = base, used = base;
    Work work;
    while (next_work(queue, work)) {
      Accumulators acc{};
#pragma unroll 1
      for (int step = work.begin; step < work.end; ++step) {
        ptx::cp_async_wait<Tile::kStages - 2>();
        __syncthreads();  // the stage is complete, and the one before it is read
        loader.next();
        compute(acc, step, stage);
        if (step + 1 == region1_end || (step + 1 == work.end && step < region1_end)) scale_region1(acc, work.tile);
        used = stage;
        stage += Tile::kStageBytes;
        if (stage == base + Tile::kBytes) stage = base;
      }
      __syncthreads();  // the last stage is read: outputs are staged there until the next is copied into it
      if (work.end - work.begin == args.schedule.groups || reduce(acc, work.tile)) {
        using Epilogue = EpilogueSm80<Tile::kUnits, Tile::kBlocks>;
        const uint32_t staging = used + threadIdx.x / 32 * Epilogue::kWarpBytes;
        Epilogue(args, staging, lane, first_token(work.tile), first_row(work.tile)).run(acc);
      }
    }
    ptx::cp_async_wait<0>();
  }
};

}  // namespace comet::cuda
