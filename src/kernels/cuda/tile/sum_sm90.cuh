// SPDX-License-Identifier: Apache-2.0
// A tile that several parties work on, CTAs of a cluster and sides of a CTA, is added up through shared memory.
#pragma once

#include "kernels/cuda/tile/gemm_stages_sm90.cuh"

namespace comet::cuda {

constexpr int kPartBytes = kUnitTokens * 16 * 4;  // a warp's part of a unit: 16 rows

// What the sum of a tile over `ranks` CTAs needs of a CTA's ring: its sides' parts, then what others leave it.
constexpr int sum_bytes(int tile_m, int sides, int ranks, int rows) {
  const int units = tile_m / kUnitTokens, owned = (units + sides * ranks - 1) / (sides * ranks);
  return sides * side_warps(rows) * kPartBytes * (units + (ranks - 1) * sides * owned);
}

// Those who add up a tile, each some units of it: sides of CTAs of a cluster. Party = rank * sides + side.
__device__ __forceinline__ int first_unit(const GemmKernelArgs& args, int party) { return args.unit_begin[party]; }
__device__ __forceinline__ int num_units(const GemmKernelArgs& args, int party) {
  return args.unit_begin[party + 1] - args.unit_begin[party];
}

// Party p ends up with the units from unit_begin[p], in acc from 0 on. The rings are idle by then: every warp leaves
// its part of all units at the end of its own, [side][warp][unit][8 tokens of 2][lane], and has those of parties in
// other CTAs copied to the beginning of theirs, [side][sender][warp][unit][8 tokens of 2][lane].
template <class Weights, int kTileM, int kStages, int kSides, int kRows>
struct Sum {
  using Shared = GemmShared<Weights, kTileM, kStages, kSides, kRows>;
  static constexpr int kUnits = kTileM / kUnitTokens, kSideWarps = side_warps(kRows),
                       kWarps = consumer_warps(kSides, kRows);
  const GemmKernelArgs& args;
  uint32_t base;
  const Fragment& at;

  __device__ __forceinline__ void run(int32_t (&acc)[kTileM / 2], int rank) const {
    const int ranks = args.schedule.cluster, warp = at.warpgroup * 4 + at.warp;
    const auto cta_after = [&](int step) { return rank + step < ranks ? rank + step : rank + step - ranks; };
    static_assert(sum_bytes(kTileM, kSides, max_cluster(kTileM, kSides, kRows), kRows) <= Shared::kStagingAt,
                  "no room in the ring");
    if (at.lane + 1 < ranks)
      ptx::mbarrier_arrive_cluster(ptx::map_to_cta(Shared::ring_free(base), cta_after(at.lane + 1)));
    ptx::named_barrier_sync(kSumBarrier, kWarps * 32);
    const auto left = [&](int side) {
      return base + Shared::kStagingAt - (kWarps - side * kSideWarps - warp) * kUnits * kPartBytes;
    };
#pragma unroll
    for (int j = 0; j < 2 * kUnits; ++j)
      ptx::store_shared_v4(left(at.side) + j * (kPartBytes / 2) + at.lane * 16,
                           {static_cast<uint32_t>(acc[4 * j]), static_cast<uint32_t>(acc[4 * j + 1]),
                            static_cast<uint32_t>(acc[4 * j + 2]), static_cast<uint32_t>(acc[4 * j + 3])});
    const int senders = (ranks - 1) * kSides;
    if (senders > 0) ptx::fence_async_proxy();
    __syncwarp();
    const int most = args.most_units;
    const auto received = [&](int side, int sender, int units) {
      return base + ((side * senders * most + sender * units) * kSideWarps + warp * units) * kPartBytes;
    };
    if (at.lane < senders) {
      const int step = at.lane / kSides + 1, side = at.lane % kSides, cta = cta_after(step);
      const int to = cta * kSides + side, units = num_units(args, to);
      if (units > 0) {
        ptx::mbarrier_wait(Shared::ring_free(base), 0);
        ptx::bulk_copy_to_cta(ptx::map_to_cta(received(side, (ranks - 1 - step) * kSides + at.side, units), cta),
                              left(at.side) + first_unit(args, to) * kPartBytes, units * kPartBytes,
                              ptx::map_to_cta(Shared::parts_full(base, side), cta));
      }
    }
    kSides > 1 ? ptx::named_barrier_sync(kSumBarrier, kWarps * 32) : __syncwarp();
    const int me = rank * kSides + at.side, units = num_units(args, me);
    if (units > 0) {
      const auto add_from = [&](uint32_t from, bool is_first) {
#pragma unroll
        for (int j = 0; j < kUnits; ++j) {  // kUnits: blocks of 8 tokens of half of the units
          if (j >= 2 * units) break;
          const uint4 v = ptx::load_shared_v4(from + j * (kPartBytes / 2) + at.lane * 16);
          const uint32_t of[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
          for (int e = 0; e < 4; ++e)
            acc[4 * j + e] = static_cast<int32_t>((is_first ? 0u : static_cast<uint32_t>(acc[4 * j + e])) + of[e]);
        }
      };
      const int first = first_unit(args, me) * kPartBytes;
      add_from(left(0) + first, true);
      if (kSides > 1) add_from(left(1) + first, false);
      if (senders > 0) ptx::mbarrier_wait(Shared::parts_full(base, at.side), 0);
#pragma unroll 1
      for (int sender = 0; sender < senders; ++sender) add_from(received(at.side, sender, units), false);
      __syncwarp();
    }
    if (ranks > 1) ptx::cluster_arrive();
  }
};

}  // namespace comet::cuda
