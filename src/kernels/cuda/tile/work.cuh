// SPDX-License-Identifier: Apache-2.0
// Which tiles and which groups of k a CTA computes: the same arithmetic for producer, consumers and the host's tests.
#pragma once

#include "base/dtype.h"
#include "kernels/cuda/tile/fast_divisor.h"

namespace comet::cuda {

// Tiles 0 .. full_tiles are computed whole, dealt round to the CTAs. The groups of the others, the split tiles, laid
// end to end, are cut into one run of range_groups for each CTA. With helped_groups < groups each split tile belongs to
// one CTA, the last ones of the grid, which computes the tile's first groups and adds what helpers, the first CTAs of
// the grid, leave in global memory: the runs then are theirs, of the last helped_groups. (Helpers first: a CTA that
// waits for one must not keep it from starting.) With cluster > 1 instead, a tile that is not whole belongs to a
// cluster of that many CTAs, which share its groups evenly and add up through each other's shared memory: their last
// work, so that the rings are idle by then. Tile = (token tile fastest, row tile).
struct Schedule {
  FastDivisor tiles_m;  // token tiles
  FastDivisor cluster;
  int tiles_n = 0;  // row tiles
  int groups = 0;   // k / 128
  int full_tiles = 0;
  FastDivisor helped_groups;     // of a split tile; all where it has no owner
  FastDivisor range_groups = 0;  // 0 where every tile is whole or a cluster's
};

// Two sides: a CTA has twice the warps, which share the groups of its only tile.
// Larger tiles of larger clusters leave no room to add up in.
constexpr int max_cluster(int tile_m, int sides, int rows) {
  if (sides == 2) return 3;
  if (rows > 128) return 4;
  return tile_m > 128 ? 2 : (tile_m < 96 ? 4 : 8);
}
constexpr int kMostRanks = 8;  // CTAs of a cluster

COMET_HD int lesser(int a, int b) { return a < b ? a : b; }

struct Work {
  int tile = 0;
  int begin = 0, end = 0;  // groups
};

COMET_HD int num_split_tiles(const Schedule& s) { return s.tiles_m * s.tiles_n - s.full_tiles; }
COMET_HD int owned_groups(const Schedule& s) { return s.groups - s.helped_groups; }  // of a split tile by its owner

struct WorkQueue {
  Schedule s;
  int cta, num_ctas;
  int position, range_end;  // groups of split tiles, which this CTA computes first, or of the cluster's tile
  int tile;                 // next whole tile; past all tiles: everything is dealt
};

// kSides: of the kernel; with two every CTA has one tile or, in a cluster, one share of a tile.
template <int kSides = 1>
COMET_HD WorkQueue make_queue(const Schedule& s, int cta, int num_ctas) {
  if constexpr (kSides > 1) {
    const int tile = cta / s.cluster, rank = cta % s.cluster;
    return {s, cta, num_ctas, s.groups * rank / s.cluster, s.groups * (rank + 1) / s.cluster, tile};
  }
  if (s.cluster > 1) {
    const int tile = cta / s.cluster, rank = cta % s.cluster, first = tile * s.groups;
    const bool has_one = tile < num_split_tiles(s);
    return {s,
            cta,
            num_ctas,
            has_one ? first + s.groups * rank / s.cluster : 0,
            has_one ? first + s.groups * (rank + 1) / s.cluster : 0,
            cta};
  }
  const int begin = cta * s.range_groups, end = num_split_tiles(s) * s.helped_groups;
  return {s, cta, num_ctas, lesser(begin, end), lesser(begin + s.range_groups, end), cta};
}

template <int kSides = 1>
COMET_HD bool next_work(WorkQueue& q, Work& w) {
  if constexpr (kSides > 1) {
    w = {q.tile, q.position, q.range_end};
    q.position = q.range_end;
    return w.begin < w.end;
  }
  const bool is_whole_next = q.s.cluster > 1 && q.tile < q.s.full_tiles;
  if (q.position < q.range_end && !is_whole_next) {
    const int tile = q.position / q.s.helped_groups, length = q.s.helped_groups, begin = q.position - tile * length;
    const int end = lesser(length, begin + q.range_end - q.position);
    w = {q.s.full_tiles + tile, owned_groups(q.s) + begin, owned_groups(q.s) + end};
    q.position += end - begin;
    return true;
  }
  if (q.tile < q.s.full_tiles) {
    w = {q.tile, 0, q.s.groups};
    q.tile += q.num_ctas;
    return true;
  }
  const int splits = num_split_tiles(q.s), split = q.cta - (q.num_ctas - splits);
  if (owned_groups(q.s) == 0 || split < 0 || q.tile > q.s.full_tiles + q.num_ctas) return false;
  w = {q.s.full_tiles + split, 0, owned_groups(q.s)};
  q.tile = q.s.full_tiles + q.num_ctas + 1;
  return true;
}

// The CTAs (with owners: the helpers) that hold a part of a split tile, counted from the first.
COMET_HD int first_contributor(const Schedule& s, int split_tile) {
  return split_tile * s.helped_groups / s.range_groups;
}
COMET_HD int last_contributor(const Schedule& s, int split_tile) {
  return ((split_tile + 1) * s.helped_groups - 1) / s.range_groups;
}

// A CTA's range touches at most one tile's end (slot 0) and one tile's beginning (slot 1) that are not whole.
COMET_HD int partial_slot(const Schedule& s, int cta, int split_tile) {
  return 2 * cta + (cta * s.range_groups / s.helped_groups == split_tile ? 0 : 1);
}

}  // namespace comet::cuda
