// SPDX-License-Identifier: Apache-2.0
// The pool of kv_blocks: which are free, how many tables hold each of the others, and which can be found again by the
// tokens in them. Ids and counts, no memory.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "engine/prefix_cache.h"

namespace comet {

// kv_blocks of one sequence: position p lives in entry p / block_size.
using BlockTable = std::vector<int32_t>;

// kv_blocks that hold the beginning of a sequence already.
struct CachedPrefix {
  BlockTable table;             // full ones only
  PrefixId prefix = kNoPrefix;  // up to their end
};

class BlockManager {
 public:
  // num_blocks kv_blocks of block_size token positions each; both >= 1. cache_seed: a secret; without one there is no
  // prefix cache.
  BlockManager(int num_blocks, int block_size, std::optional<uint64_t> cache_seed = {});

  int num_blocks() const { return static_cast<int>(ref_counts_.size()); }
  int block_size() const { return block_size_; }
  int num_free() const { return static_cast<int>(free_.size()); }  // to be had; what they hold may still be found
  int num_used() const { return num_blocks() - num_free(); }
  int64_t num_positions() const { return static_cast<int64_t>(num_blocks()) * block_size_; }
  int blocks_for(int64_t num_positions) const;  // kv_blocks that hold positions [0, num_positions)
  int ref_count(int32_t block) const;           // tables that hold it; 0: free

  // kv_blocks `table` lacks to hold num_positions; 0 when it has them.
  int num_missing(const BlockTable& table, int64_t num_positions) const;
  bool can_grow(const BlockTable& table, int64_t num_positions) const;
  // Appends free kv_blocks until `table` holds num_positions. Throws Error when can_grow is false.
  void grow(BlockTable& table, int64_t num_positions);
  // Gives back every kv_block of `table`, last first, and empties it. Throws Error on a kv_block that is free.
  // Those that can be found stay so until they are given out again, the one released first before the others.
  void release(BlockTable& table);

  // Where the chain of a sequence begins; kNoPrefix, which nothing is ever found behind, without a prefix cache.
  PrefixId root(std::string_view salt) const { return cache_ ? cache_->root(salt) : kNoPrefix; }
  // A table that takes part in the longest run of kv_blocks that hold the beginning of `tokens` behind `root`.
  CachedPrefix match(PrefixId root, std::span<const int32_t> tokens);
  // Makes entry `index` of `table` findable: it holds the block_size `tokens` behind `prefix`, for good. Where another
  // kv_block holds the same, the table changes over to that one. The prefix up to its end; kNoPrefix: not findable.
  PrefixId keep(PrefixId prefix, std::span<const int32_t> tokens, BlockTable& table, int index);

  // Throws Error unless every kv_block is either once in the free list or held by exactly ref_count of `tables`, which
  // are all the tables there are.
  void check_integrity(std::span<const BlockTable* const> tables) const;

 private:
  void hold(int32_t block);
  void let_go(int32_t block);

  int block_size_;
  std::optional<PrefixCache> cache_;
  std::list<int32_t> free_, held_;                  // free_: in the order in which they will be given out
  std::vector<std::list<int32_t>::iterator> node_;  // [num_blocks] in one of the two
  std::vector<int32_t> ref_counts_;                 // [num_blocks]
};

}  // namespace comet
