// SPDX-License-Identifier: Apache-2.0
// The Hopper GEMM's shared memory, what a CTA of a cluster owns, and the producer warps that fill the ring.
#pragma once

#include <algorithm>

#include "kernels/cuda/ptx/launch.cuh"
#include "kernels/cuda/tile/epilogue.cuh"
#include "kernels/cuda/tile/ring.cuh"
#include "kernels/cuda/tile/weights.cuh"

namespace comet::cuda {

constexpr int kTileRows = 128;  // of most tiles
constexpr int kProducerWarps = 3;
// A warpgroup of a side has 64 rows of the tile, a warp one strip.
constexpr int side_warps(int rows) { return rows / kStripRows; }
constexpr int consumer_warps(int sides, int rows) { return side_warps(rows) * sides; }
// Where an even share of the registers is too little, the producer is a whole warpgroup, so that it can hand its own
// over.
struct RegisterShares {
  int producer = 0, consumer = 0;  // 0: an even share
};
constexpr RegisterShares register_shares(int tile_m, int sides, int rows) {
  if (tile_m > 128) return {40, 232};
  if (rows > kTileRows) return {40, 152};
  if (tile_m == 64) return {sides == 1 ? 32 : 40, 104};  // two CTAs an SM, or two sides
  return {};
}
constexpr bool moves_registers(int tile_m, int sides, int rows) {
  return register_shares(tile_m, sides, rows).producer > 0;
}
constexpr int gemm_threads(int tile_m, int sides, int rows) {
  return (consumer_warps(sides, rows) + (moves_registers(tile_m, sides, rows) ? 4 : kProducerWarps)) * 32;
}
constexpr int kTokenSlots = 2;  // per-token values of this tile and the next

// Groups of a stage: two where shared memory has room, which halves what a group costs in barriers.
constexpr int stage_groups(int tile_m) { return tile_m == 96 || tile_m == 128 ? 2 : 1; }

// Byte offsets in dynamic shared memory, which starts at a multiple of 1024.
template <class Weights, int kTileM, int kStages, int kSides, int kRows>
struct GemmShared {
  static_assert(kStages % kSides == 0, "a stage belongs to a side");
  static constexpr int kStrips = kRows / kStripRows;
  static constexpr int kGroups = stage_groups(kTileM);  // of a stage
  static constexpr int kTokenBytes = kTileM * kGroup;   // of a group
  static constexpr int kWeightBytes = kStrips * Weights::kUnitBytes;
  static constexpr int kWeightsAt = kStages * kGroups * kTokenBytes;
  static constexpr int kStagingAt = kWeightsAt + kStages * kGroups * kWeightBytes;
  static constexpr int kValuesAt = kStagingAt + kSides * (kRows / 64) * 2 * kSliceBytes;
  static constexpr int kValueBytes = kTileM * 4;
  static constexpr int kBarriersAt = kValuesAt + kTokenSlots * 3 * kValueBytes;
  static constexpr int kBytes = kBarriersAt + (2 * kStages + 2 * kTokenSlots + 4) * 8;

  static __device__ uint32_t tokens(uint32_t base, int stage) { return base + stage * kGroups * kTokenBytes; }
  static __device__ uint32_t weights(uint32_t base, int stage) {
    return base + kWeightsAt + stage * kGroups * kWeightBytes;
  }
  static __device__ uint32_t full(uint32_t base, int stage) { return base + kBarriersAt + stage * 16; }
  static __device__ uint32_t empty(uint32_t base, int stage) { return base + kBarriersAt + stage * 16 + 8; }
  static __device__ uint32_t values_full(uint32_t base, int slot) { return full(base, kStages + slot); }
  static __device__ uint32_t values_empty(uint32_t base, int slot) { return empty(base, kStages + slot); }
  // Of a sum: the rings of the other CTAs may be written; what others leave to a side is complete.
  static __device__ uint32_t ring_free(uint32_t base) { return full(base, kStages + kTokenSlots); }
  static __device__ uint32_t parts_full(uint32_t base, int side) {
    return full(base, kStages + kTokenSlots + side) + 8;
  }
  static __device__ TokenValues values(uint32_t base, int slot) {
    const uint32_t at = base + kValuesAt + slot * 3 * kValueBytes;
    return {at, at + kValueBytes, at + 2 * kValueBytes};
  }
};

struct TilePlace {
  int token0, strip0, tokens;  // tokens: rounded up to blocks of 8
};

template <int kTileM, int kRows>
__device__ TilePlace place_of(const GemmKernelArgs& args, int tile) {
  const int tile_m = tile % args.schedule.tiles_m, tile_n = tile / args.schedule.tiles_m;
  TilePlace p{tile_m * kTileM, tile_n * (kRows / kStripRows), 0};
  p.tokens = min(kTileM, padded_tokens(args.m) - p.token0);
  return p;
}

// Three warps, for weights, tokens and per-token values: a copy takes about 90 clocks to issue, and a group of a small
// tile is over in 300.
template <class Weights, int kTileM, int kStages, int kSides, int kRows>
struct GemmProducer {
  using Shared = GemmShared<Weights, kTileM, kStages, kSides, kRows>;
  static constexpr int kGroups = Shared::kGroups;
  const GemmKernelArgs& args;
  uint32_t base;

  // Stages of weights in the order of the work. Read once, says the policy: where their stream decides, a GEMM is 3-7%
  // faster for it.
  struct WeightStream {
    const GemmKernelArgs& args;
    uint32_t base;
    WorkQueue queue = make_queue<kSides>(args.schedule, blockIdx.x, gridDim.x);
    RingCursor<kStages> ring{};
    Work work{};
    const uint8_t* from = nullptr;
    int strips = Shared::kStrips;
    uint64_t once = ptx::read_once();
    bool is_over = false;

    __device__ void enter_tile() {
      is_over = !next_work<kSides>(queue, work);
      if (is_over) return;
      const int first = place_of<kTileM, kRows>(args, work.tile).strip0;
      from = args.weights + static_cast<size_t>(work.begin) * args.group_bytes + first * Weights::kUnitBytes;
      if constexpr (kRows > kTileRows) strips = min(Shared::kStrips, num_packed_strips(args.n) - first);
    }

    // By a whole warp, so that addresses are in uniform registers: by a lane alone GEMMs are 1-2% slower. Lanes stay
    // together: one that is a round of the ring late waits for ever.
    __device__ void copy_stage(bool is_one) {
      __syncwarp();
      const uint32_t full = Shared::full(base, ring.slot), to = Shared::weights(base, ring.slot);
      const int groups = kGroups == 1 ? 1 : min(kGroups, work.end - work.begin);
      if (is_one) ptx::mbarrier_arrive_expect(full, groups * strips * Weights::kUnitBytes);
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        if (i == groups) break;
        if (is_one) ptx::bulk_copy_once(to + i * Shared::kWeightBytes, from, strips * Weights::kUnitBytes, full, once);
        from += args.group_bytes;
      }
      ring.advance();
      work.begin += kGroups;
      if (work.begin >= work.end) enter_tile();
    }
  };

  // By a whole warp. Does not wait for the kernel in front: weights are under way before it ends; nor, for the first
  // round, for stages to be empty: even asking takes 160 clocks. Asked for all at once, though, they would stand in
  // front of the tokens.
  __device__ void run_weights(int lane) const {
    WeightStream stream{args, base};
    stream.enter_tile();
    ptx::named_barrier_sync(kRingBarrier, 64);                          // the ring's barriers are initialised
    constexpr uint32_t kClocks = kGroups * (kTileM == 32 ? 100 : 140);  // from a stage to the next
    uint32_t asked = ptx::clock() - kClocks;
    for (int i = 0; i < kStages && !stream.is_over; ++i) {
      while (ptx::clock() - asked < kClocks) {
      }
      asked = ptx::clock();
      stream.copy_stage(lane == 0);
    }
    while (!stream.is_over) {
      ptx::mbarrier_wait(Shared::empty(base, stream.ring.slot), stream.ring.parity ^ 1u);
      stream.copy_stage(lane == 0);
    }
  }

  // By one lane: by a whole warp, as the weights, GEMMs are 1% slower.
  __device__ void run_tokens() const {
    WorkQueue queue = make_queue<kSides>(args.schedule, blockIdx.x, gridDim.x);
    RingCursor<kStages> ring;
    int untouched = kStages;
    const uint32_t group_bytes = padded_tokens(args.m) * kGroup;
    for (Work work; next_work<kSides>(queue, work);) {
      const TilePlace p = place_of<kTileM, kRows>(args, work.tile);
      const int bytes = p.tokens * kGroup;
      const int8_t* from = args.values + static_cast<size_t>(work.begin) * group_bytes + p.token0 * kGroup;
      ptx::wait_for_previous_kernel();
#pragma unroll 1
      for (int group = work.begin; group < work.end; group += kGroups, ring.advance()) {
        const uint32_t full = Shared::full(base, ring.slot), to = Shared::tokens(base, ring.slot);
        const bool is_whole = kGroups == 2 && group + 1 < work.end;
        if (untouched > 0)
          --untouched;
        else
          ptx::mbarrier_wait(Shared::empty(base, ring.slot), ring.parity ^ 1u);
        ptx::mbarrier_arrive_expect(full, is_whole ? 2 * bytes : bytes);
        ptx::bulk_copy(to, from, bytes, full);
        from += group_bytes;
        if (is_whole) {
          ptx::bulk_copy(to + Shared::kTokenBytes, from, bytes, full);
          from += group_bytes;
        }
      }
    }
  }

  __device__ void run_values() const {
    WorkQueue queue = make_queue<kSides>(args.schedule, blockIdx.x, gridDim.x);
    RingCursor<kTokenSlots> slots;
    for (Work work; next_work<kSides>(queue, work); slots.advance()) {
      const TilePlace p = place_of<kTileM, kRows>(args, work.tile);
      const uint32_t bar = Shared::values_full(base, slots.slot), bytes = p.tokens * 4;
      const TokenValues to = Shared::values(base, slots.slot);
      ptx::wait_for_previous_kernel();
      ptx::mbarrier_wait(Shared::values_empty(base, slots.slot), slots.parity ^ 1u);
      ptx::mbarrier_arrive_expect(bar, 3 * bytes);
      ptx::bulk_copy(to.sums, args.sums + p.token0, bytes, bar);
      ptx::bulk_copy(to.scales, args.scales + p.token0, bytes, bar);
      ptx::bulk_copy(to.factors, args.factors + p.token0, bytes, bar);
    }
  }
};

}  // namespace comet::cuda
