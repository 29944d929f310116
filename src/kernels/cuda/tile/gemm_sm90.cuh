// SPDX-License-Identifier: Apache-2.0
// The Hopper GEMM: producer warps feed stages of (kRows x 128 k of weights, kTileM tokens x 128 k) by bulk copies; each
// consumer warpgroup turns 64 rows into wgmma register operands. Persistent; drawing in docs/kernels.md.
#pragma once

#include "kernels/cuda/tile/sum_sm90.cuh"

namespace comet::cuda {

template <class Weights, int kTileM, int kStages, int kSides, int kRows>
struct GemmConsumer {
  using Shared = GemmShared<Weights, kTileM, kStages, kSides, kRows>;
  static constexpr int kUnits = kTileM / kUnitTokens;
  static constexpr int kWarpgroups = kRows / 64;  // of a side
  const GemmKernelArgs& args;
  uint32_t base;
  Fragment at;

  // Makes the wgmma operand of a group of a stage.
  __device__ __forceinline__ void unpack(int stage, int group, uint32_t (&a)[16]) const {
    const int strip = group * Shared::kStrips + at.warpgroup * 4 + at.warp;
    Weights::unpack(Weights::fetch(Shared::weights(base, stage) + strip * Weights::kUnitBytes, at.lane), a);
    ptx::pin_operand(a);
  }
  __device__ __forceinline__ void load(const RingCursor<kStages>& ring, uint32_t (&a)[16]) const {
    ptx::mbarrier_wait(Shared::full(base, ring.slot), ring.parity);
    unpack(ring.slot, 0, a);
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

  // One group: enqueue its products. The group before is over by then, which frees the registers that the next is
  // unpacked into.
  __device__ __forceinline__ void multiply(int32_t (&acc)[kTileM / 2], const uint32_t (&a)[16], int stage, int group,
                                           bool accumulate) const {
    const uint64_t b = ptx::wgmma_descriptor_swizzle128(Shared::tokens(base, stage) + group * Shared::kTokenBytes);
    ptx::wgmma_fence();
#pragma unroll
    for (int j = 0; j < 4; ++j) Weights::wgmma(acc, a + 4 * j, b + 2 * j, accumulate || j > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
  }

  // The next group's weights are unpacked while the products of the one before run.
  __device__ __forceinline__ void mainloop(int32_t (&acc)[kTileM / 2], const Work& work, RingCursor<kStages>& ring,
                                           const RingCursor<kTokenSlots>& slots) const {
    constexpr int kGroups = Shared::kGroups;
    static_assert(kGroups == 1 || kSides == 1);
    const int first = work.begin + (kSides == 1 ? 0 : at.side);  // plans give every side one
    const int region1_end = first < args.num_int8_groups ? min(args.num_int8_groups, work.end) : -1;
    uint32_t a[2][16], running = 0;  // running: the barrier of the stage that is still multiplied
    load(ring, a[0]);
    const auto end_region1 = [&] {
      ptx::wgmma_wait<0>();
      ptx::mbarrier_wait(Shared::values_full(base, slots.slot), slots.parity);
      scale_region1(acc, Shared::values(base, slots.slot));
    };
    // The first group of a stage; the stage before is over.
    const auto begin_stage = [&](int group, uint32_t(&of)[16]) {
      multiply(acc, of, ring.slot, 0, group != first);
      if (group != first) ptx::mbarrier_arrive(running);
      running = Shared::empty(base, ring.slot);
    };
    int group = first;
    // One loop for each region: nothing asks after every group whether region 1 ends.
    if constexpr (kGroups == 2) {
#pragma unroll 1
      for (int stop = region1_end > 0 ? region1_end : work.end;; stop = work.end) {
#pragma unroll 1
        for (; group + 2 <= stop; group += 2) {
          begin_stage(group, a[0]);
          unpack(ring.slot, 1, a[1]);
          multiply(acc, a[1], ring.slot, 1, true);
          ring.advance();
          if (group + 2 < work.end) load(ring, a[0]);
        }
        if (group < stop) {  // the region ends inside a stage
          begin_stage(group, a[0]);
          if (stop == region1_end) end_region1();
          if (stop < work.end) {
            unpack(ring.slot, 1, a[1]);
            multiply(acc, a[1], ring.slot, 1, true);
          }
          ring.advance();
          group += 2;
          if (group < work.end) load(ring, a[0]);
        } else if (stop == region1_end) {
          end_region1();
        }
        if (stop == work.end) break;
      }
    } else {
      // A side takes every second group.
#pragma unroll 1
      for (int stop = region1_end > 0 ? region1_end : work.end;; stop = work.end) {
#pragma unroll 1
        for (; group + kSides < stop; group += 2 * kSides) {
          begin_stage(group, a[0]);
          ring.template advance<kSides>();
          load(ring, a[1]);
          begin_stage(group + kSides, a[1]);
          ring.template advance<kSides>();
          if (group + 2 * kSides < work.end) load(ring, a[0]);
        }
        const bool is_odd = group < stop;
        if (is_odd) {
          begin_stage(group, a[0]);
          group += kSides;
          ring.template advance<kSides>();
        }
        if (stop == region1_end) end_region1();
        if (group >= work.end) break;
        if (is_odd) load(ring, a[0]);
      }
    }
    ptx::wait_for_previous_kernel();                                          // it is over, since tokens are here
    ptx::mbarrier_wait(Shared::values_full(base, slots.slot), slots.parity);  // under the last products
    ptx::wgmma_wait<0>();
    ptx::mbarrier_arrive(running);
  }

  // One warpgroup's parts of a split tile, which helpers add to each other, [accumulator][thread]; zero between
  // launches.
  __device__ int32_t* parts(int split) const {
    return args.partials + (split * kWarpgroups + at.warpgroup) * (kTileM / 2 * 128) + at.thread;
  }
  __device__ uint32_t* counter(int split) const { return args.counters + split * kWarpgroups + at.warpgroup; }

  __device__ void leave_part(const int32_t (&acc)[kTileM / 2], int split) const {
    int32_t* to = parts(split);
#pragma unroll
    for (int i = 0; i < kTileM / 2; ++i) ptx::reduce_add(to + i * 128, acc[i]);
    ptx::named_barrier_sync(at.barrier(), 128);
    if (at.thread == 0) ptx::atomic_add_acq_rel(counter(split), 1);
  }

  __device__ void add_parts(int32_t (&acc)[kTileM / 2], int split) const {
    const uint32_t helpers = last_contributor(args.schedule, split) - first_contributor(args.schedule, split) + 1;
    if (at.thread == 0) {
      while (ptx::load_acquire(counter(split)) != helpers) {
      }
      *counter(split) = 0;
    }
    ptx::named_barrier_sync(at.barrier(), 128);
    int32_t* from = parts(split);
    constexpr int kBatch = 16;
#pragma unroll
    for (int first = 0; first < kTileM / 2; first += kBatch) {
      int32_t v[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) v[i] = ptx::load_global_l2(from + (first + i) * 128);
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        acc[first + i] += v[i];
        from[(first + i) * 128] = 0;
      }
    }
  }

  __device__ void run() const {
    ptx::allow_next_kernel();
    if (args.schedule.cluster > 1) ptx::cluster_wait();  // until the others' barriers are initialised
    WorkQueue queue = make_queue<kSides>(args.schedule, blockIdx.x, gridDim.x);
    RingCursor<kStages> ring{kSides == 1 ? 0 : at.side, 0};
    RingCursor<kTokenSlots> slots;
    uint32_t toggle = 0;
    bool has_added = false;  // over a cluster
    Work work;
    while (next_work<kSides>(queue, work)) {
      TilePlace p = place_of<kTileM, kRows>(args, work.tile);
      if constexpr (kSides > 1) {  // else ptxas divides again for every group, and behind the last
        for (int* kept : {&work.begin, &work.end, &p.token0, &p.strip0}) *kept = __shfl_sync(~0u, *kept, 0);
      }
      const int row0 = p.strip0 * kStripRows + at.warpgroup * 64;
      Scaler<Weights::kOffset128> scaler;
      // Early where registers allow, so that its latency is hidden.
      constexpr bool kEarlyScales = kTileM > 64 || kSides > 1 || kRows > kTileRows;
      if constexpr (kEarlyScales) scaler.load(args, row0 + at.warp * 16 + at.row());
      int32_t acc[kTileM / 2];
      mainloop(acc, work, ring, slots);
      if constexpr (!kEarlyScales) scaler.load(args, row0 + at.warp * 16 + at.row());
      const TokenValues values = Shared::values(base, slots.slot);
      const int ranks = args.schedule.cluster;
      const uint32_t staging = base + Shared::kStagingAt + at.number() * 2 * kSliceBytes;
      const bool is_part = work.end - work.begin < args.schedule.groups;
      if (kSides > 1 || (ranks > 1 && is_part)) {
        const int rank = ptx::cluster_rank();
        Sum<Weights, kTileM, kStages, kSides, kRows>{args, base, at}.run(acc, rank);
        has_added = ranks > 1;
        const UnitShare mine = unit_share(args, at.side, rank);
        const int first = (at.side * (kUnits / kSides) + mine.first) * kUnitTokens;
        const Epilogue<Weights::kOffset128, kTileM> epilogue{
            args, at, scaler, values.from(first), staging, p.token0 + first, row0};
        constexpr int kMost = kUnits / 2;
        if constexpr (kSides == 1)
          epilogue.template run<kMost>(acc, mine.count, toggle);
        else
          ranks == 1 ? epilogue.template run<kMost>(acc, kMost, toggle)
                     : epilogue.template run<(kMost + 1) / 2>(acc, mine.count, toggle);
      } else {
        const int split = work.tile - args.schedule.full_tiles;
        if (is_part) work.begin == 0 ? add_parts(acc, split) : leave_part(acc, split);
        if (!is_part || work.begin == 0)
          Epilogue<Weights::kOffset128, kTileM>{args, at, scaler, values, staging, p.token0, row0}.template run<kUnits>(
              acc, kUnits, toggle);
      }
      ptx::mbarrier_arrive(Shared::values_empty(base, slots.slot));
      slots.advance();
      if constexpr (kSides > 1) break;  // its only tile: the sum of another would land in staging that is in use
    }
    if (has_added) ptx::cluster_wait();  // until what it has left for others is copied
  }
};

// What a CTA does before its first copies is time that every launch takes: the weights' are under way before the other
// warps know of the barriers.
template <class Weights, int kTileM, int kStages, int kSides, int kRows>
__device__ __forceinline__ void gemm_sm90(const GemmKernelArgs& args) {
  using Shared = GemmShared<Weights, kTileM, kStages, kSides, kRows>;
  constexpr int kConsumerWarps = consumer_warps(kSides, kRows), kSideWarps = side_warps(kRows),
                kThreads = gemm_threads(kTileM, kSides, kRows);
  constexpr bool kMovesRegisters = moves_registers(kTileM, kSides, kRows);
  extern __shared__ __align__(1024) uint8_t shared_bytes[];
  const uint32_t base = ptx::shared_address(shared_bytes);
  const uint32_t warp = __shfl_sync(~0u, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
  const bool is_cluster = args.schedule.cluster > 1;
  if (warp >= kConsumerWarps) {
    if constexpr (kMovesRegisters) ptx::decrease_registers<register_shares(kTileM, kSides, kRows).producer>();
    const GemmProducer<Weights, kTileM, kStages, kSides, kRows> producer{args, base};
    const int role = warp - kConsumerWarps;
    const auto arrive = [&] {
      if (is_cluster) ptx::cluster_arrive();
      if (is_cluster && ptx::kIsForRacecheck) ptx::cluster_wait();
    };
    if (role == 0) {
      ptx::named_barrier_arrive(kStartBarrier, kThreads);
      arrive();
      producer.run_weights(lane);
    } else if (role == 1) {
      if (lane == 0) {
        for (int i = 0; i < kStages; ++i) {
          ptx::mbarrier_init(Shared::full(base, i), 2);  // weights, tokens
          ptx::mbarrier_init(Shared::empty(base, i), kSideWarps * 32);
        }
        ptx::fence_mbarrier_init();
      }
      __syncwarp();
      ptx::named_barrier_arrive(kRingBarrier, 64);
      ptx::named_barrier_arrive(kStartBarrier, kThreads);
      arrive();
      if (lane == 0) producer.run_tokens();
    } else {
      if (role == 2 && lane == 0) {
        for (int i = 0; i < kTokenSlots; ++i) {
          ptx::mbarrier_init(Shared::values_full(base, i), 1);
          ptx::mbarrier_init(Shared::values_empty(base, i), kConsumerWarps * 32);
        }
        if (is_cluster) {
          ptx::mbarrier_init(Shared::ring_free(base), kConsumerWarps * (args.schedule.cluster - 1));
          for (int side = 0; side < kSides; ++side) ptx::mbarrier_init(Shared::parts_full(base, side), 1);
        }
        ptx::fence_mbarrier_init();
      }
      __syncwarp();
      ptx::named_barrier_arrive(kStartBarrier, kThreads);
      arrive();
      if (role == 2 && lane == 0) producer.run_values();
    }
    // Nobody leaves between its arrival there and the end of that phase. They may leave within the next one, where
    // consumers arrive that have added up: it waits for those who are there.
    if (is_cluster && !ptx::kIsForRacecheck) ptx::cluster_wait();
    return;
  }
  if constexpr (kMovesRegisters) ptx::increase_registers<register_shares(kTileM, kSides, kRows).consumer>();
  ptx::named_barrier_sync(kStartBarrier, kThreads);
  if (is_cluster) ptx::cluster_arrive();
  const Fragment at{static_cast<int>(warp / kSideWarps), static_cast<int>(warp % kSideWarps / 4),
                    static_cast<int>(threadIdx.x % 128), static_cast<int>(warp % 4), static_cast<int>(lane)};
  GemmConsumer<Weights, kTileM, kStages, kSides, kRows>{args, base, at}.run();
}

}  // namespace comet::cuda
