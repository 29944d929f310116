// SPDX-License-Identifier: Apache-2.0
// The Hopper GEMM: two producer warps feed stages of (128 rows x 128 k of weights, kTileM tokens x 128 k) by bulk
// copies; two consumer warpgroups turn 64 rows each into wgmma register operands. Persistent; drawing in
// docs/kernels.md.
#pragma once

#include <algorithm>

#include "kernels/cuda/ptx/launch.cuh"
#include "kernels/cuda/tile/epilogue.cuh"
#include "kernels/cuda/tile/weights.cuh"

namespace comet::cuda {

constexpr int kTileRows = 128;
constexpr int kTileStrips = kTileRows / kStripRows;
static_assert(kTileStrips == kBlockStrips, "a stage's weights are one copy");
constexpr int kConsumerWarps = 8, kProducerWarps = 2;
// Where an even share of the registers is too little, the producer is a whole warpgroup, so that it can hand its own
// over.
struct RegisterShares {
  int producer = 0, consumer = 0;  // 0: an even share
};
constexpr RegisterShares register_shares(int tile_m) {
  if (tile_m > 128) return {40, 232};
  if (tile_m == 64) return {40, 96};  // two CTAs an SM
  return {};
}
constexpr bool moves_registers(int tile_m) { return register_shares(tile_m).producer > 0; }
constexpr int gemm_threads(int tile_m) {
  return (kConsumerWarps + (moves_registers(tile_m) ? 4 : kProducerWarps)) * 32;
}
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
  static constexpr int kBytes = kBarriersAt + (2 * kStages + 2 * kTokenSlots + 2) * 8;

  static __device__ uint32_t tokens(uint32_t base, int stage) { return base + stage * kTokenBytes; }
  static __device__ uint32_t weights(uint32_t base, int stage) { return base + kWeightsAt + stage * kWeightBytes; }
  static __device__ uint32_t full(uint32_t base, int stage) { return base + kBarriersAt + stage * 16; }
  static __device__ uint32_t empty(uint32_t base, int stage) { return base + kBarriersAt + stage * 16 + 8; }
  static __device__ uint32_t values_full(uint32_t base, int slot) { return full(base, kStages + slot); }
  static __device__ uint32_t values_empty(uint32_t base, int slot) { return empty(base, kStages + slot); }
  // Of a cluster: the others' rings may be written; what the others write here is complete.
  static __device__ uint32_t ring_free(uint32_t base) { return full(base, kStages + kTokenSlots); }
  static __device__ uint32_t parts_full(uint32_t base) { return empty(base, kStages + kTokenSlots); }
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

constexpr int kPartBytes = kUnitTokens * 16 * 4;  // a warp's part of a unit: 16 rows

// The most parts that a warp leaves to others and gets from them, in a cluster of any size.
constexpr int most_parts(int tile_m) {
  const int units = tile_m / kUnitTokens;
  int most = 0;
  for (int ranks = 2; ranks <= max_cluster(tile_m); ++ranks)
    for (int owned = std::max(1, units / ranks); owned <= (units + ranks - 1) / ranks; ++owned)
      most = std::max(most, units - owned + (ranks - 1) * owned);
  return most;
}

// A bit for each unit that a CTA of a cluster finishes.
template <int kTileM>
__device__ __forceinline__ uint32_t owned_units(const GemmKernelArgs& args, int rank) {
  return args.cluster_units << rank & ((1u << (kTileM / kUnitTokens)) - 1u);
}

template <int kTileM>
__device__ TilePlace place_of(const GemmKernelArgs& args, int tile) {
  const int tile_m = tile % args.schedule.tiles_m, tile_n = tile / args.schedule.tiles_m;
  TilePlace p{tile_m * kTileM, tile_n * kTileStrips, 0};
  p.tokens = min(kTileM, padded_tokens(args.m) - p.token0);
  return p;
}

// Two warps, one lane of each: a copy takes about 90 clocks to issue, and a stage of a small tile is over in 400.
template <class Weights, int kTileM, int kStages>
struct GemmProducer {
  using Shared = GemmShared<Weights, kTileM, kStages>;
  const GemmKernelArgs& args;
  uint32_t base;

  // Does not wait for the kernel in front: weights are under way before it ends.
  __device__ void run_weights() const {
    WorkQueue queue = make_queue(args.schedule, blockIdx.x, gridDim.x);
    RingCursor<kStages> ring;
    for (Work work; next_work(queue, work);) {
      const TilePlace p = place_of<kTileM>(args, work.tile);
      const uint8_t* from = args.weights + unit_index(args.schedule.groups, p.strip0, work.begin) * Weights::kUnitBytes;
#pragma unroll 1
      for (int group = work.begin; group < work.end; ++group, ring.advance(), from += Shared::kWeightBytes) {
        const uint32_t full = Shared::full(base, ring.slot);
        ptx::mbarrier_wait(Shared::empty(base, ring.slot), ring.parity ^ 1u);
        ptx::mbarrier_arrive_expect(full, Shared::kWeightBytes);
        ptx::bulk_copy(Shared::weights(base, ring.slot), from, Shared::kWeightBytes, full);
      }
    }
  }

  __device__ void run_tokens() const {
    ptx::wait_for_previous_kernel();
    WorkQueue queue = make_queue(args.schedule, blockIdx.x, gridDim.x);
    RingCursor<kStages> ring;
    RingCursor<kTokenSlots> slots;
    const uint32_t group_bytes = padded_tokens(args.m) * kGroup;
    for (Work work; next_work(queue, work);) {
      const TilePlace p = place_of<kTileM>(args, work.tile);
      const int bytes = p.tokens * kGroup, early = min(work.begin + kStages, work.end);
      const int8_t* from = args.values + static_cast<size_t>(work.begin) * group_bytes + p.token0 * kGroup;
#pragma unroll 1
      for (int group = work.begin; group < work.end; ++group, ring.advance(), from += group_bytes) {
        const uint32_t full = Shared::full(base, ring.slot);
        ptx::mbarrier_wait(Shared::empty(base, ring.slot), ring.parity ^ 1u);
        ptx::mbarrier_arrive_expect(full, bytes);
        ptx::bulk_copy(Shared::tokens(base, ring.slot), from, bytes, full);
        if (group + 1 == early) {  // not needed before the first region ends
          ptx::mbarrier_wait(Shared::values_empty(base, slots.slot), slots.parity ^ 1u);
          copy_values(p.token0, bytes / kGroup * 4, slots.slot);
          slots.advance();
        }
      }
    }
  }

  __device__ void copy_values(int token0, int bytes, int slot) const {
    const uint32_t bar = Shared::values_full(base, slot);
    const TokenValues to = Shared::values(base, slot);
    ptx::mbarrier_arrive_expect(bar, 3 * bytes);
    ptx::bulk_copy(to.sums, args.sums + token0, bytes, bar);
    ptx::bulk_copy(to.scales, args.scales + token0, bytes, bar);
    ptx::bulk_copy(to.factors, args.factors + token0, bytes, bar);
  }
};

template <class Weights, int kTileM, int kStages>
struct GemmConsumer {
  using Shared = GemmShared<Weights, kTileM, kStages>;
  static constexpr int kUnits = kTileM / kUnitTokens;
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
                                           const RingCursor<kTokenSlots>& slots) const {
    const int region1_end = work.begin < args.num_int8_groups ? min(args.num_int8_groups, work.end) : -1;
    uint32_t a[2][16], running = 0;  // running: the barrier of the group that is still multiplied
    load(ring, a[0]);
    auto end_region1 = [&](int group) {
      if (group != region1_end) return;
      ptx::wgmma_wait<0>();
      ptx::mbarrier_wait(Shared::values_full(base, slots.slot), slots.parity);
      scale_region1(acc, Shared::values(base, slots.slot));
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

  static constexpr int kPartInt4 = kTileM / 8 * 128;  // one warpgroup's part of a split tile
  __device__ int4* part(int helper, int split) const {
    return args.partials + (helper_slot(helper, split) * 2 + at.warpgroup) * kPartInt4 + at.thread;
  }
  __device__ uint32_t* counter(int split) const { return args.counters + split * 2 + at.warpgroup; }

  __device__ void leave_part(const int32_t (&acc)[kTileM / 2], int split) const {
    int4* to = part(blockIdx.x, split);
#pragma unroll
    for (int i = 0; i < kTileM / 8; ++i) to[i * 128] = {acc[4 * i], acc[4 * i + 1], acc[4 * i + 2], acc[4 * i + 3]};
    ptx::named_barrier_sync(1 + at.warpgroup, 128);
    if (at.thread == 0) ptx::atomic_add_acq_rel(counter(split), 1);
  }

  __device__ void add_parts(int32_t (&acc)[kTileM / 2], int split) const {
    const int first = first_contributor(args.schedule, split), last = last_contributor(args.schedule, split);
    if (at.thread == 0) {
      while (ptx::load_acquire(counter(split)) != static_cast<uint32_t>(last - first + 1)) {
      }
      *counter(split) = 0;
    }
    ptx::named_barrier_sync(1 + at.warpgroup, 128);
#pragma unroll 1
    for (int helper = first; helper <= last; ++helper) {
      const int4* from = part(helper, split);
#pragma unroll
      for (int i = 0; i < kTileM / 8; ++i) {
        const int4 v = ptx::load_global_l2(from + i * 128);
        acc[4 * i] += v.x, acc[4 * i + 1] += v.y, acc[4 * i + 2] += v.z, acc[4 * i + 3] += v.w;
      }
    }
  }

  // Sums over the cluster: unit u ends up in CTA u % cluster. The ring is idle by now: a warp leaves the others' units
  // at the end of its own and has them copied to the beginning of theirs, [other CTA][warp][unit][8 tokens][lane].
  __device__ void reduce_cluster(int32_t (&acc)[kTileM / 2], int rank) const {
    const int ranks = args.schedule.cluster, warp = at.warpgroup * 4 + at.warp;
    static_assert(most_parts(kTileM) * kConsumerWarps * kPartBytes <= Shared::kStagingAt, "no room in the ring");
    const uint32_t mine = owned_units<kTileM>(args, rank);
    const int owned = __popc(mine);
    const uint32_t left = base + Shared::kStagingAt - (kConsumerWarps - warp) * (kUnits - owned) * kPartBytes;
    const int step = at.lane + 1, owner = (rank + step) % ranks;  // of lanes 0 .. ranks - 2
    if (step < ranks) ptx::mbarrier_arrive_cluster(ptx::map_to_cta(Shared::ring_free(base), owner));
    ptx::named_barrier_sync(3, kConsumerWarps * 32);
    uint32_t to = left + at.lane * 16, place = 0;  // place: of this lane's owner among what is left
    for (int other = 1; other < ranks; ++other) {
      const uint32_t units = owned_units<kTileM>(args, (rank + other) % ranks);
      if (other == step) place = to - at.lane * 16;
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        if ((units >> u & 1u) == 0) continue;
#pragma unroll
        for (int j = 2 * u; j < 2 * u + 2; ++j, to += kPartBytes / 2)
          ptx::store_shared_v4(to, {static_cast<uint32_t>(acc[4 * j]), static_cast<uint32_t>(acc[4 * j + 1]),
                                    static_cast<uint32_t>(acc[4 * j + 2]), static_cast<uint32_t>(acc[4 * j + 3])});
      }
    }
    ptx::fence_async_proxy();
    __syncwarp();
    const int bytes = step < ranks ? __popc(owned_units<kTileM>(args, owner)) * kPartBytes : 0;
    if (bytes > 0) {
      ptx::mbarrier_wait(Shared::ring_free(base), 0);
      const uint32_t there = base + ((ranks - 1 - step) * kConsumerWarps + warp) * bytes;
      ptx::bulk_copy_to_cta(ptx::map_to_cta(there, owner), place, bytes,
                            ptx::map_to_cta(Shared::parts_full(base), owner));
    }
    ptx::mbarrier_wait(Shared::parts_full(base), 0);
#pragma unroll 1
    for (int other = 0; other < ranks - 1; ++other) {
      uint32_t from = base + (other * kConsumerWarps + warp) * owned * kPartBytes + at.lane * 16;
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        if ((mine >> u & 1u) == 0) continue;
#pragma unroll
        for (int j = 2 * u; j < 2 * u + 2; ++j, from += kPartBytes / 2) {
          const uint4 v = ptx::load_shared_v4(from);
          acc[4 * j] += v.x, acc[4 * j + 1] += v.y, acc[4 * j + 2] += v.z, acc[4 * j + 3] += v.w;
        }
      }
    }
    __syncwarp();
    ptx::cluster_arrive();
  }

  __device__ void run() const {
    ptx::allow_next_kernel();
    if (args.schedule.cluster > 1) ptx::cluster_wait();  // their barriers are initialised
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
      int32_t acc[kTileM / 2];
      mainloop(acc, work, ring, slots);
      ptx::mbarrier_wait(Shared::values_full(base, slots.slot), slots.parity);
      if constexpr (!kEarlyScales) scaler.load(args, row0 + at.warp * 16 + at.row());
      const int ranks = args.schedule.cluster, rank = blockIdx.x % ranks;
      const int split = work.tile - args.schedule.full_tiles;
      const bool is_part = ranks == 1 && work.end - work.begin < args.schedule.groups;
      if (ranks > 1) reduce_cluster(acc, rank);
      if (is_part) work.begin == 0 ? add_parts(acc, split) : leave_part(acc, split);
      if (!is_part || work.begin == 0) {
        const uint32_t staging = base + Shared::kStagingAt + at.warpgroup * 2 * kSliceBytes;
        Epilogue<Weights::kOffset128, kTileM>{args, at, scaler, values, staging, p.token0, row0}.run(
            acc, owned_units<kTileM>(args, rank), toggle);
      }
      ptx::mbarrier_arrive(Shared::values_empty(base, slots.slot));
      slots.advance();
    }
    if (args.schedule.cluster > 1) ptx::cluster_wait();  // until what this CTA left to others has been copied
  }
};

template <class Weights, int kTileM, int kStages>
__device__ __forceinline__ void gemm_sm90(const GemmKernelArgs& args) {
  using Shared = GemmShared<Weights, kTileM, kStages>;
  extern __shared__ __align__(1024) uint8_t shared_bytes[];
  const uint32_t base = ptx::shared_address(shared_bytes);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      ptx::mbarrier_init(Shared::full(base, i), kProducerWarps);
      ptx::mbarrier_init(Shared::empty(base, i), kConsumerWarps * 32);
    }
    for (int i = 0; i < kTokenSlots; ++i) {
      ptx::mbarrier_init(Shared::values_full(base, i), 1);
      ptx::mbarrier_init(Shared::values_empty(base, i), kConsumerWarps * 32);
    }
    if (args.schedule.cluster > 1) {
      const int ranks = args.schedule.cluster, rank = blockIdx.x % ranks;
      const int owned = __popc(owned_units<kTileM>(args, rank));
      ptx::mbarrier_init(Shared::ring_free(base), kConsumerWarps * (ranks - 1));
      ptx::mbarrier_init(Shared::parts_full(base), 1);
      ptx::mbarrier_arrive_expect(Shared::parts_full(base), (ranks - 1) * owned * kUnitTokens * kTileRows * 4);
    }
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if (args.schedule.cluster > 1) ptx::cluster_arrive();
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0), lane = threadIdx.x % 32;
  if (warp >= kConsumerWarps) {
    if constexpr (moves_registers(kTileM)) ptx::decrease_registers<register_shares(kTileM).producer>();
    const GemmProducer<Weights, kTileM, kStages> producer{args, base};
    if (warp == kConsumerWarps && lane == 0) producer.run_weights();
    if (warp == kConsumerWarps + 1 && lane == 0) producer.run_tokens();
  } else {
    if constexpr (moves_registers(kTileM)) ptx::increase_registers<register_shares(kTileM).consumer>();
    const Fragment at{warp / 4, static_cast<int>(threadIdx.x) % 128, warp % 4, lane};
    GemmConsumer<Weights, kTileM, kStages>{args, base, at}.run();
  }
}

}  // namespace comet::cuda
