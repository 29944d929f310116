// SPDX-License-Identifier: Apache-2.0
// A tile that sides of a CTA and CTAs of a cluster work on is added up through shared memory.
#pragma once

#include "kernels/cuda/tile/gemm_stages_sm90.cuh"

namespace comet::cuda {

constexpr int kPartBytes = kUnitTokens * 16 * 4;  // a warp's part of a unit: 16 rows

// What the sum of a tile over `ranks` CTAs needs of a CTA's ring: for each side as many units as it finishes or, with
// two, as it gives to the other and finishes; then what other CTAs leave it.
constexpr int sum_bytes(int tile_m, int sides, int ranks, int rows) {
  const int units = tile_m / kUnitTokens, of_side = units / sides, owned = (of_side + ranks - 1) / ranks;
  return sides * side_warps(rows) * kPartBytes * (units + (ranks - 1) * owned);
}

constexpr int most_sum_bytes(int tile_m, int sides, int rows) {
  int most = 0;
  for (int ranks = 1; ranks <= max_cluster(tile_m, sides, rows); ++ranks)
    most = std::max(most, sum_bytes(tile_m, sides, ranks, rows));
  return most;
}

// Which of its units a side of a CTA of a cluster finishes: as even as they come over the CTAs, the other way round on
// side 1. So no CTA finishes all of a tile alone, each sends something, and has waited for all arrivals at its
// ring_free (none with two sides of a pair) before it leaves.
struct UnitShare {
  int first, count;
};
__device__ __forceinline__ UnitShare unit_share(const GemmKernelArgs& args, int side, int rank) {
  const uint8_t* begin = args.unit_begin + (side == 0 ? rank : args.schedule.cluster - 1 - rank);
  return {begin[0], begin[1] - begin[0]};
}

// A side ends up with the units that it finishes in acc from 0 on: of two, each first adds its half of the units over
// both, so that half as much goes from CTA to CTA, which takes a clock for 16 bytes. The rings are idle by then. A
// warp leaves parts as [unit][8 tokens of 2][lane], 16 bytes each.
template <class Weights, int kTileM, int kStages, int kSides, int kRows>
struct Sum {
  using Shared = GemmShared<Weights, kTileM, kStages, kSides, kRows>;
  static constexpr int kUnits = kTileM / kUnitTokens / kSides;  // of a side
  static constexpr int kValues = kUnits * kUnitTokens / 2;      // of a thread in them
  static constexpr int kSideWarps = side_warps(kRows), kWarps = consumer_warps(kSides, kRows);
  static_assert(most_sum_bytes(kTileM, kSides, kRows) <= Shared::kStagingAt, "no room in the ring");
  static_assert(kSides > 1 || kUnits % 2 == 0, "a pair of CTAs finishes halves");
  const GemmKernelArgs& args;
  uint32_t base;
  const Fragment& at;

  // Where this warp of a side leaves its units: slot 0 for other CTAs, 1 for the other side.
  __device__ uint32_t left(int side, int slot) const {
    const int warp = at.warpgroup * 4 + at.warp;
    return base + Shared::kStagingAt - ((slot * kSides + side + 1) * kSideWarps - warp) * kUnits * kPartBytes;
  }
  // The accumulators from kFirst on.
  template <int kFirst, int kLeft = kUnits>
  __device__ __forceinline__ void leave(const int32_t (&acc)[kTileM / 2], uint32_t to) const {
#pragma unroll
    for (int i = 0; i < kLeft * kUnitTokens / 2; i += 4)
      ptx::store_shared_v4(to + i * 128 + at.lane * 16,
                           {static_cast<uint32_t>(acc[kFirst + i]), static_cast<uint32_t>(acc[kFirst + i + 1]),
                            static_cast<uint32_t>(acc[kFirst + i + 2]), static_cast<uint32_t>(acc[kFirst + i + 3])});
  }
  // acc from kTo on: what is there from kFirst on, or nothing, and `units` units from shared memory.
  template <int kFirst, bool kIsSum, int kMost = kUnits, int kTo = 0>
  __device__ __forceinline__ void add(int32_t (&acc)[kTileM / 2], uint32_t from, int units) const {
#pragma unroll
    for (int i = 0; i < kMost * kUnitTokens / 2; i += 4) {
      if (i >= units * (kUnitTokens / 2)) break;
      const uint4 v = ptx::load_shared_v4(from + i * 128 + at.lane * 16);
      const uint32_t of[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int e = 0; e < 4; ++e)
        acc[kTo + i + e] = static_cast<int32_t>((kIsSum ? static_cast<uint32_t>(acc[kFirst + i + e]) : 0u) + of[e]);
    }
  }

  // Over both sides of a CTA: side 0 keeps the first half of the units, side 1 the second.
  __device__ __forceinline__ void add_sides(int32_t (&acc)[kTileM / 2]) const {
    ptx::named_barrier_sync(kSumBarrier, kWarps * 32);  // the rings are idle
    at.side == 0 ? leave<kValues>(acc, left(0, 1)) : leave<0>(acc, left(1, 1));
    ptx::named_barrier_sync(kSumBarrier, kWarps * 32);
    at.side == 0 ? add<0, true>(acc, left(1, 1), kUnits) : add<kValues, true>(acc, left(0, 1), kUnits);
  }

  // Which of a side's units it finishes and which it gives to the other CTA of a pair: unit_share as constants. Of one
  // unit the second half is all.
  template <bool kIsFirst>
  struct Pair {
    static constexpr int kHalf = kUnits / 2, kKept = kIsFirst ? kHalf : kUnits - kHalf, kSent = kUnits - kKept;
    static constexpr int kUnitValues = kUnitTokens / 2;
    static constexpr int kKeptAt = kIsFirst ? 0 : kHalf * kUnitValues,
                         kSentAt = kIsFirst ? kHalf * kUnitValues : 0;  // in acc
  };
  // Leaves units from kFirst on for the other CTA, where its warp finds them at `place`.
  template <int kFirst, int kSent, bool kIsRing>
  __device__ __forceinline__ void send(const int32_t (&acc)[kTileM / 2], uint32_t place, int peer) const {
    leave<kFirst, kSent>(acc, left(at.side, 0));
    ptx::fence_async_proxy();
    __syncwarp();
    if (at.lane == 0) {
      if constexpr (kIsRing) ptx::mbarrier_wait(Shared::ring_free(base), 0);
      ptx::bulk_copy_to_cta(ptx::map_to_cta(place, peer), left(at.side, 0), kSent * kPartBytes,
                            ptx::map_to_cta(Shared::parts_full(base, at.side), peer));
    }
    __syncwarp();
  }
  // Bytes may land before they are announced: the one arrival that is missing keeps the phase open.
  template <int kKept>
  __device__ __forceinline__ void receive(int32_t (&acc)[kTileM / 2], uint32_t place) const {
    if (at.warpgroup == 0 && at.thread == 0)
      ptx::mbarrier_arrive_expect(Shared::parts_full(base, at.side), kSideWarps * kPartBytes * kKept);
    ptx::mbarrier_wait(Shared::parts_full(base, at.side), 0);
    add<0, true, kKept>(acc, place, kKept);
    __syncwarp();
  }

  // Over a pair of CTAs; what a side finishes stays in its registers.
  template <bool kIsFirst>
  __device__ __forceinline__ void add_pair(int32_t (&acc)[kTileM / 2], int peer) const {
    using Mine = Pair<kIsFirst>;
    const int warp = at.warpgroup * 4 + at.warp;
    if (at.lane == 0) ptx::mbarrier_arrive_cluster(ptx::map_to_cta(Shared::ring_free(base), peer));
    ptx::named_barrier_sync(kSumBarrier, kWarps * 32);
    send<Mine::kSentAt, Mine::kSent, true>(acc, base + warp * Mine::kSent * kPartBytes, peer);
    if constexpr (!kIsFirst) {
#pragma unroll
      for (int i = 0; i < Mine::kKept * Mine::kUnitValues; ++i) acc[i] = acc[Mine::kKeptAt + i];
    }
    receive<Mine::kKept>(acc, base + warp * Mine::kKept * kPartBytes);
    ptx::cluster_arrive();
  }

  // Over the two sides of two CTAs: what goes to the other CTA is added up first, the rest while that is on its way. It
  // comes to the slice of staging that the epilogue does not use, so that nobody has to make room.
  template <int kSide, bool kIsFirst>
  __device__ __forceinline__ void add_pair_of_sides(int32_t (&acc)[kTileM / 2], int peer) const {
    using Mine = Pair<kIsFirst>;
    using Other = Pair<!kIsFirst>;  // of this CTA's other side
    static_assert(std::max(Mine::kKept, Mine::kSent) * 4 * kPartBytes <= kSliceBytes);
    constexpr int kMineAt = kSide * kValues, kOtherAt = (1 - kSide) * kValues;
    const uint32_t staging = base + Shared::kStagingAt + at.number() * 2 * kSliceBytes;
    const uint32_t mine = left(kSide, 1), others = left(1 - kSide, 1);
    ptx::named_barrier_sync(kSumBarrier, kWarps * 32);  // the rings are idle
    leave<kOtherAt + Other::kSentAt, Other::kSent>(acc, others);
    ptx::named_barrier_sync(kSumBarrier, kWarps * 32);
    if constexpr (Mine::kSent > 0) {
      add<kMineAt + Mine::kSentAt, true, Mine::kSent, kMineAt + Mine::kSentAt>(acc, mine, Mine::kSent);
      send<kMineAt + Mine::kSentAt, Mine::kSent, false>(acc, staging + at.warp * Mine::kSent * kPartBytes, peer);
    }
    leave<kOtherAt + Other::kKeptAt, Other::kKept>(acc, others + Other::kSent * kPartBytes);
    ptx::named_barrier_sync(kSumBarrier, kWarps * 32);
    if constexpr (Mine::kKept > 0) {
      add<kMineAt + Mine::kKeptAt, true, Mine::kKept>(acc, mine + Mine::kSent * kPartBytes, Mine::kKept);
      receive<Mine::kKept>(acc, staging + at.warp * Mine::kKept * kPartBytes);
    }
    ptx::cluster_arrive();
  }

  // Over the CTAs of a cluster: what others leave comes to the beginning of the ring, [side][sender][warp][unit].
  __device__ __forceinline__ void add_ranks(int32_t (&acc)[kTileM / 2], int rank) const {
    const int ranks = args.schedule.cluster, senders = ranks - 1, warp = at.warpgroup * 4 + at.warp;
    const UnitShare mine = unit_share(args, at.side, rank);
    const auto cta_after = [&](int step) { return rank + step < ranks ? rank + step : rank + step - ranks; };
    if (warp == 0 && at.lane == 0)
      ptx::mbarrier_arrive_expect(Shared::parts_full(base, at.side), senders * kSideWarps * kPartBytes * mine.count);
    if (at.lane < senders)
      ptx::mbarrier_arrive_cluster(ptx::map_to_cta(Shared::ring_free(base), cta_after(at.lane + 1)));
    if constexpr (kSides == 1) ptx::named_barrier_sync(kSumBarrier, kWarps * 32);
    leave<0>(acc, left(at.side, 0));
    ptx::fence_async_proxy();
    __syncwarp();
    const auto received = [&](int sender, int units) {
      return base + ((at.side * senders * args.most_units + sender * units) * kSideWarps + warp * units) * kPartBytes;
    };
    if (at.lane < senders) {
      const int to = cta_after(at.lane + 1);
      const UnitShare theirs = unit_share(args, at.side, to);
      if (theirs.count > 0) {
        ptx::mbarrier_wait(Shared::ring_free(base), 0);
        ptx::bulk_copy_to_cta(ptx::map_to_cta(received(senders - 1 - at.lane, theirs.count), to),
                              left(at.side, 0) + theirs.first * kPartBytes, theirs.count * kPartBytes,
                              ptx::map_to_cta(Shared::parts_full(base, at.side), to));
      }
    }
    __syncwarp();
    if (mine.count > 0) {
      add<0, false>(acc, left(at.side, 0) + mine.first * kPartBytes, mine.count);
      ptx::mbarrier_wait(Shared::parts_full(base, at.side), 0);
#pragma unroll 1
      for (int sender = 0; sender < senders; ++sender) add<0, true>(acc, received(sender, mine.count), mine.count);
      __syncwarp();
    }
    ptx::cluster_arrive();
  }

  __device__ __forceinline__ void run(int32_t (&acc)[kTileM / 2], int rank) const {
    const int ranks = args.schedule.cluster;
    if constexpr (kSides == 1) {
      if (ranks == 2) return rank == 0 ? add_pair<true>(acc, 1) : add_pair<false>(acc, 0);
    } else {
      if (ranks == 2 && rank == 0)
        return at.side == 0 ? add_pair_of_sides<0, true>(acc, 1) : add_pair_of_sides<1, false>(acc, 1);
      if (ranks == 2) return at.side == 0 ? add_pair_of_sides<0, false>(acc, 0) : add_pair_of_sides<1, true>(acc, 0);
      add_sides(acc);
    }
    if (ranks > 1) add_ranks(acc, rank);
  }
};

}  // namespace comet::cuda
