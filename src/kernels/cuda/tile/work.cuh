// SPDX-License-Identifier: Apache-2.0
// Which tiles and which groups of k a CTA computes: the same arithmetic for producer, consumers and the host's tests.
#pragma once

#include "base/dtype.h"

namespace comet::cuda {

// Tiles 0 .. full_tiles are computed whole, dealt round to the CTAs; the groups of the others, laid end to end, are cut
// into one run of range_groups for each CTA. With cluster > 1 instead, a tile belongs to a cluster of that many CTAs,
// which share its groups evenly and add up through each other's shared memory. Tile = (token tile fastest, row tile).
struct Schedule {
  int tiles_m = 0;  // token tiles
  int tiles_n = 0;  // tiles of 128 rows
  int groups = 0;   // k / 128
  int full_tiles = 0;
  int range_groups = 0;  // 0 where every tile is whole or has a cluster
  int cluster = 1;
};

COMET_HD int lesser(int a, int b) { return a < b ? a : b; }

struct Work {
  int tile = 0;
  int begin = 0, end = 0;  // groups
};

struct WorkQueue {
  Schedule s;
  int position, range_end, tile, stride;
};

COMET_HD WorkQueue make_queue(const Schedule& s, int cta, int num_ctas) {
  if (s.cluster > 1) {
    const int tile = cta / s.cluster, rank = cta % s.cluster, first = tile * s.groups;
    return {s, first + s.groups * rank / s.cluster, first + s.groups * (rank + 1) / s.cluster, 0, num_ctas};
  }
  const int total = (s.tiles_m * s.tiles_n - s.full_tiles) * s.groups;
  const int begin = cta * s.range_groups;
  return {s, begin, lesser(begin + s.range_groups, total), cta, num_ctas};
}

// Split tiles first: their reduction then overlaps the whole tiles of other CTAs.
COMET_HD bool next_work(WorkQueue& q, Work& w) {
  if (q.position < q.range_end) {
    const int tile = q.position / q.s.groups, begin = q.position - tile * q.s.groups;
    w = {q.s.full_tiles + tile, begin, lesser(q.s.groups, begin + q.range_end - q.position)};
    q.position += w.end - w.begin;
    return true;
  }
  if (q.tile >= q.s.full_tiles) return false;
  w = {q.tile, 0, q.s.groups};
  q.tile += q.stride;
  return true;
}

// The CTAs that hold a part of a split tile (counted from the first split tile).
COMET_HD int first_contributor(const Schedule& s, int split_tile) { return split_tile * s.groups / s.range_groups; }
COMET_HD int last_contributor(const Schedule& s, int split_tile) {
  return ((split_tile + 1) * s.groups - 1) / s.range_groups;
}

// A CTA's range touches at most one tile's end (slot 0) and one tile's beginning (slot 1) that are not whole.
COMET_HD int partial_slot(const Schedule& s, int cta, int split_tile) {
  return 2 * cta + (cta * s.range_groups / s.groups == split_tile ? 0 : 1);
}

}  // namespace comet::cuda
