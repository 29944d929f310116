// SPDX-License-Identifier: Apache-2.0
// The Hopper GEMM: one producer warp feeds stages of (128 rows x 128 k of weights, kTileM tokens x 128 k) by bulk
// copies; two consumer warpgroups turn 64 rows each into wgmma register operands. Persistent; drawing in
// docs/kernels.md.
#pragma once

#include "kernels/cuda/ptx/launch.cuh"
#include "kernels/cuda/tile/epilogue.cuh"
#include "kernels/cuda/tile/weights.cuh"

namespace comet::cuda {

constexpr int kTileRows = 128;
constexpr int kTileStrips = kTileRows / kStripRows;
static_assert(kTileStrips == kBlockStrips, "a stage's weights are one copy");
constexpr int kConsumerWarps = 8;
// Where an even share of the registers is too little, the producer is a whole warpgroup, so that it can hand its own
// over (9 warps would not do: 3 of them share a quarter of the SM, which leaves 168 registers a thread).
struct RegisterShares {
  int producer = 0, consumer = 0;  // 0: an even share
};
constexpr RegisterShares register_shares(int tile_m) {
  if (tile_m > 128) return {40, 232};
  if (tile_m == 64) return {40, 96};  // two CTAs an SM
  return {};
}
constexpr bool moves_registers(int tile_m) { return register_shares(tile_m).producer > 0; }
constexpr int gemm_threads(int tile_m) { return (kConsumerWarps + (moves_registers(tile_m) ? 4 : 1)) * 32; }
constexpr int kTokenSlots = 2;  // per-token values of this tile and the next

// Byte offsets in dynamic shared memory, which starts at a multiple of 1024.
template <class Weights, int kTileM, int kStages>
struct GemmShared {
  static constexpr int kTokenBytes = kTileM * kGroup;
  static constexpr int kWeightBytes = kTileStrips * Weights::kUnitBytes;
  static constexpr int kWeightsAt = kStages * kTokenBytes;
  static constexpr int kStagingAt = kWeightsAt + kStages * kWeightBytes;
  static constexpr int kValuesAt = kStagingAt + 2 * 2 * kSliceBytes;
  static constexpr int kValueBytes = kTileM * 4;
  static constexpr int kBarriersAt = kValuesAt + kTokenSlots * 3 * kValueBytes;
  static constexpr int kFlagsAt = kBarriersAt + (2 * kStages + 2 * kTokenSlots) * 8;
  static constexpr int kBytes = kFlagsAt + 2 * 4;

  static __device__ uint32_t tokens(uint32_t base, int stage) { return base + stage * kTokenBytes; }
  static __device__ uint32_t weights(uint32_t base, int stage) { return base + kWeightsAt + stage * kWeightBytes; }
  static __device__ uint32_t full(uint32_t base, int stage) { return base + kBarriersAt + stage * 16; }
  static __device__ uint32_t empty(uint32_t base, int stage) { return base + kBarriersAt + stage * 16 + 8; }
  static __device__ uint32_t values_full(uint32_t base, int slot) { return full(base, kStages + slot); }
  static __device__ uint32_t values_empty(uint32_t base, int slot) { return empty(base, kStages + slot); }
  static __device__ TokenValues values(uint32_t base, int slot) {
    const uint32_t at = base + kValuesAt + slot * 3 * kValueBytes;
    return {at, at + kValueBytes, at + 2 * kValueBytes};
  }
};

// A place in a ring of kSlots and the parity of its current round.
template <int kSlots>
struct RingCursor {
  int slot = 0;
  uint32_t parity = 0;
  __device__ void advance() {
    if (++slot == kSlots) slot = 0, parity ^= 1u;
  }
};

struct TilePlace {
  int token0, strip0, tokens;  // tokens: rounded up to blocks of 8
};

template <int kTileM>
__device__ TilePlace place_of(const GemmKernelArgs& args, int tile) {
  const int tile_m = tile % args.schedule.tiles_m, tile_n = tile / args.schedule.tiles_m;
  TilePlace p{tile_m * kTileM, tile_n * kTileStrips, 0};
  p.tokens = min(kTileM, padded_tokens(args.m) - p.token0);
  return p;
}

template <class Weights, int kTileM, int kStages>
struct GemmProducer {
  using Shared = GemmShared<Weights, kTileM, kStages>;
  const GemmKernelArgs& args;
  uint32_t base;
  int lane;

  // Lane 0 issues everything: copies from several lanes would be issued one after another all the same.
  __device__ void copy_weights(const TilePlace& p, int group, int stage) const {
    if (lane != 0) return;
    const uint32_t full = Shared::full(base, stage);
    ptx::mbarrier_arrive_expect(full, p.tokens * kGroup + Shared::kWeightBytes);
    const size_t unit = unit_index(args.schedule.groups, p.strip0, group);
    ptx::bulk_copy(Shared::weights(base, stage), args.weights + unit * Weights::kUnitBytes, Shared::kWeightBytes, full);
  }

  __device__ void copy_tokens(const TilePlace& p, int group, int stage) const {
    if (lane != 0) return;
    const int8_t* from = args.values + (static_cast<size_t>(group) * padded_tokens(args.m) + p.token0) * kGroup;
    ptx::bulk_copy(Shared::tokens(base, stage), from, p.tokens * kGroup, Shared::full(base, stage));
  }

  __device__ void copy_values(const TilePlace& p, int slot) const {
    if (lane != 0) return;
    const uint32_t bar = Shared::values_full(base, slot), bytes = p.tokens * 4;
    const TokenValues to = Shared::values(base, slot);
    ptx::mbarrier_arrive_expect(bar, 3 * bytes);
    ptx::bulk_copy(to.sums, args.sums + p.token0, bytes, bar);
    ptx::bulk_copy(to.scales, args.scales + p.token0, bytes, bar);
    ptx::bulk_copy(to.factors, args.factors + p.token0, bytes, bar);
  }

  // Weights of the first stages do not depend on the previous kernel: they are under way before it ends.
  __device__ void run() const {
    WorkQueue queue = make_queue(args.schedule, blockIdx.x, gridDim.x);
    RingCursor<kStages> ring;
    RingCursor<kTokenSlots> slots;
    Work work;
    int early = 0;
    bool any = next_work(queue, work);
    if (any) {
      const TilePlace p = place_of<kTileM>(args, work.tile);
      early = min(kStages, work.end - work.begin);
      for (int i = 0; i < early; ++i) copy_weights(p, work.begin + i, i);
    }
    ptx::wait_for_previous_kernel();
    for (; any; any = next_work(queue, work)) {
      const TilePlace p = place_of<kTileM>(args, work.tile);
      ptx::mbarrier_wait(Shared::values_empty(base, slots.slot), slots.parity ^ 1u);
      copy_values(p, slots.slot);
      slots.advance();
      for (int group = work.begin; group < work.end; ++group, ring.advance()) {
        if (early == 0) {
          ptx::mbarrier_wait(Shared::empty(base, ring.slot), ring.parity ^ 1u);
          copy_weights(p, group, ring.slot);
        } else {
          --early;
        }
        copy_tokens(p, group, ring.slot);
      }
    }
    ptx::allow_next_kernel();
  }
};

template <class Weights, int kTileM, int kStages>
struct GemmConsumer {
  using Shared = GemmShared<Weights, kTileM, kStages>;
  const GemmKernelArgs& args;
  uint32_t base;
  Fragment at;

  // Waits for a stage and makes its wgmma operand.
  __device__ void load(const RingCursor<kStages>& ring, uint32_t (&a)[16]) const {
    ptx::mbarrier_wait(Shared::full(base, ring.slot), ring.parity);
    const int strip = at.warpgroup * 4 + at.warp;
    Weights::unpack(Weights::fetch(Shared::weights(base, ring.slot) + strip * Weights::kUnitBytes, at.lane), a);
    ptx::pin_operand(a);
  }

  // The accumulators of region 1 times r, once a tile.
  __device__ __forceinline__ void scale_region1(int32_t (&acc)[kTileM / 2], const TokenValues& values) const {
#pragma unroll
    for (int j = 0; j < kTileM / 8; ++j) {
      const uint2 r = ptx::load_shared_v2(values.factors + (8 * j + at.token()) * 4);
#pragma unroll
      for (int e = 0; e < 4; ++e)
        acc[4 * j + e] = static_cast<int32_t>(static_cast<uint32_t>(acc[4 * j + e]) * (e % 2 == 0 ? r.x : r.y));
    }
  }

  // One group: enqueue its products, then unpack the next group's weights while they run. The group before is over by
  // then, which frees its stage and the registers that are unpacked into.
  __device__ __forceinline__ void step(int32_t (&acc)[kTileM / 2], uint32_t (&a)[16], uint32_t (&next)[16],
                                       RingCursor<kStages>& ring, uint32_t& running, bool accumulate,
                                       bool has_next) const {
    const uint64_t b = ptx::wgmma_descriptor_swizzle128(Shared::tokens(base, ring.slot));
    ptx::wgmma_fence();
#pragma unroll
    for (int j = 0; j < 4; ++j) Weights::wgmma(acc, a + 4 * j, b + 2 * j, accumulate || j > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
    if (accumulate) ptx::mbarrier_arrive(running);  // accumulate: this is not the tile's first group
    running = Shared::empty(base, ring.slot);
    ring.advance();
    if (has_next) load(ring, next);
  }

  __device__ __forceinline__ void mainloop(int32_t (&acc)[kTileM / 2], const Work& work, RingCursor<kStages>& ring,
                                           const TokenValues& values) const {
    const int region1_end = work.begin < args.num_int8_groups ? min(args.num_int8_groups, work.end) : -1;
    uint32_t a[2][16], running = 0;  // running: the barrier of the group that is still multiplied
    load(ring, a[0]);
    auto end_region1 = [&](int group) {
      if (group != region1_end) return;
      ptx::wgmma_wait<0>();
      scale_region1(acc, values);
    };
    int group = work.begin;
#pragma unroll 1
    for (; group + 2 <= work.end; group += 2) {
      step(acc, a[0], a[1], ring, running, group != work.begin, true);
      end_region1(group + 1);
      step(acc, a[1], a[0], ring, running, true, group + 2 < work.end);
      end_region1(group + 2);
    }
    if (group < work.end) {
      step(acc, a[0], a[1], ring, running, group != work.begin, false);
      end_region1(group + 1);
    }
    ptx::wgmma_wait<0>();
    ptx::mbarrier_arrive(running);
  }

  // Leaves this CTA's part of a split tile; true for the last to arrive, which then holds the whole sum.
  __device__ bool reduce(int32_t (&acc)[kTileM / 2], int tile) const {
    const Schedule& s = args.schedule;
    const int split = tile - s.full_tiles;
    constexpr int kPart = kTileM / 8 * 128;  // int4 of one warpgroup
    auto part = [&](int cta) {
      return args.partials + (partial_slot(s, cta, split) * 2 + at.warpgroup) * kPart + at.thread;
    };
    int4* mine = part(blockIdx.x);
#pragma unroll
    for (int i = 0; i < kTileM / 8; ++i) mine[i * 128] = {acc[4 * i], acc[4 * i + 1], acc[4 * i + 2], acc[4 * i + 3]};
    const int first = first_contributor(s, split), last = last_contributor(s, split);
    const uint32_t flag = base + Shared::kFlagsAt + at.warpgroup * 4;
    ptx::named_barrier_sync(1 + at.warpgroup, 128);
    if (at.thread == 0) {
      uint32_t* counter = args.counters + split * 2 + at.warpgroup;
      const bool is_last = ptx::atomic_add_acq_rel(counter, 1) == static_cast<uint32_t>(last - first);
      if (is_last) *counter = 0;
      ptx::store_shared_u32(flag, is_last);
    }
    ptx::named_barrier_sync(1 + at.warpgroup, 128);
    if (ptx::load_shared_u16(flag) == 0) return false;
    for (int cta = first; cta <= last; ++cta) {
      if (cta == static_cast<int>(blockIdx.x)) continue;
      const int4* other = part(cta);
#pragma unroll
      for (int i = 0; i < kTileM / 8; ++i) {
        const int4 v = ptx::load_global_l2(other + i * 128);
        acc[4 * i] += v.x, acc[4 * i + 1] += v.y, acc[4 * i + 2] += v.z, acc[4 * i + 3] += v.w;
      }
    }
    return true;
  }

  // Sums over the cluster through shared memory, where the ring was: the 32 tokens of slice i end up in CTA i %
  // cluster.
  __device__ void reduce_cluster(int32_t (&acc)[kTileM / 2], int rank) const {
    const int ranks = args.schedule.cluster;
    const uint32_t mine = base + (at.warpgroup * (kTileM / 8) * 128 + at.thread) * 16;
    static_assert(kTileRows * kTileM * 4 <= Shared::kStagingAt, "the ring holds a tile of accumulators");
    ptx::named_barrier_sync(3, kConsumerWarps * 32);
#pragma unroll
    for (int i = 0; i < kTileM / 8; ++i) {
      if (i / 4 % ranks == rank) continue;
      ptx::store_shared_v4(mine + i * 2048,
                           {static_cast<uint32_t>(acc[4 * i]), static_cast<uint32_t>(acc[4 * i + 1]),
                            static_cast<uint32_t>(acc[4 * i + 2]), static_cast<uint32_t>(acc[4 * i + 3])});
    }
    ptx::cluster_sync();
    for (int step = 1; step < ranks; ++step) {
      const uint32_t other = ptx::map_to_cta(mine, (rank + step) % ranks);
#pragma unroll
      for (int i = 0; i < kTileM / 8; ++i) {
        if (i / 4 % ranks != rank) continue;
        const uint4 v = ptx::load_cluster_v4(other + i * 2048);
        acc[4 * i] += v.x, acc[4 * i + 1] += v.y, acc[4 * i + 2] += v.z, acc[4 * i + 3] += v.w;
      }
    }
  }

  __device__ void run() const {
    ptx::allow_next_kernel();
    ptx::wait_for_previous_kernel();
    WorkQueue queue = make_queue(args.schedule, blockIdx.x, gridDim.x);
    RingCursor<kStages> ring;
    RingCursor<kTokenSlots> slots;
    uint32_t toggle = 0;
    Work work;
    while (next_work(queue, work)) {
      const TilePlace p = place_of<kTileM>(args, work.tile);
      const int row0 = p.strip0 * kStripRows + at.warpgroup * 64;
      const TokenValues values = Shared::values(base, slots.slot);
      Scaler<Weights::kOffset128> scaler;
      // Early where registers allow, so that its latency is hidden.
      constexpr bool kEarlyScales = kTileM != 64;
      if constexpr (kEarlyScales) scaler.load(args, row0 + at.warp * 16 + at.row());
      ptx::mbarrier_wait(Shared::values_full(base, slots.slot), slots.parity);
      int32_t acc[kTileM / 2];
      mainloop(acc, work, ring, values);
      if constexpr (!kEarlyScales) scaler.load(args, row0 + at.warp * 16 + at.row());
      const int ranks = args.schedule.cluster, rank = blockIdx.x % ranks;
      if (ranks > 1) reduce_cluster(acc, rank);
      if (ranks > 1 || work.end - work.begin == args.schedule.groups || reduce(acc, work.tile)) {
        const uint32_t staging = base + Shared::kStagingAt + at.warpgroup * 2 * kSliceBytes;
        Epilogue<Weights::kOffset128, kTileM>{args, at, scaler, values, staging, p.token0, row0, rank, ranks}.run(
            acc, toggle);
      }
      ptx::mbarrier_arrive(Shared::values_empty(base, slots.slot));
      slots.advance();
    }
    if (args.schedule.cluster > 1) ptx::cluster_sync();  // others may still read this CTA's part
  }
};

template <class Weights, int kTileM, int kStages>
__device__ __forceinline__ void gemm_sm90(const GemmKernelArgs& args) {
  using Shared = GemmShared<Weights, kTileM, kStages>;
  extern __shared__ __align__(1024) uint8_t shared_bytes[];
  const uint32_t base = ptx::shared_address(shared_bytes);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      ptx::mbarrier_init(Shared::full(base, i), 1);
      ptx::mbarrier_init(Shared::empty(base, i), kConsumerWarps * 32);
    }
    for (int i = 0; i < kTokenSlots; ++i) {
      ptx::mbarrier_init(Shared::values_full(base, i), 1);
      ptx::mbarrier_init(Shared::values_empty(base, i), kConsumerWarps * 32);
    }
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0), lane = threadIdx.x % 32;
  if (warp >= kConsumerWarps) {
    if constexpr (moves_registers(kTileM)) ptx::decrease_registers<register_shares(kTileM).producer>();
    if (warp == kConsumerWarps) GemmProducer<Weights, kTileM, kStages>{args, base, lane}.run();
  } else {
    if constexpr (moves_registers(kTileM)) ptx::increase_registers<register_shares(kTileM).consumer>();
    const Fragment at{warp / 4, static_cast<int>(threadIdx.x) % 128, warp % 4, lane};
    GemmConsumer<Weights, kTileM, kStages>{args, base, at}.run();
  }
}

}  // namespace comet::cuda
