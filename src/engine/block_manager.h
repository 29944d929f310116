// SPDX-License-Identifier: Apache-2.0
// The pool of kv_blocks: which are free, and how many tables hold each of the others. Ids and counts, no memory.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace comet {

// kv_blocks of one sequence: position p lives in entry p / block_size.
using BlockTable = std::vector<int32_t>;

class BlockManager {
 public:
  // num_blocks kv_blocks of block_size token positions each; both >= 1.
  BlockManager(int num_blocks, int block_size);

  int num_blocks() const { return static_cast<int>(ref_counts_.size()); }
  int block_size() const { return block_size_; }
  int num_free() const { return static_cast<int>(free_.size()); }
  int num_used() const { return num_blocks() - num_free(); }
  int64_t num_positions() const { return static_cast<int64_t>(num_blocks()) * block_size_; }
  int blocks_for(int64_t num_positions) const;  // kv_blocks that hold positions [0, num_positions)
  int ref_count(int32_t block) const;           // tables that hold it; 0: free

  // kv_blocks `table` lacks to hold num_positions; 0 when it has them.
  int num_missing(const BlockTable& table, int64_t num_positions) const;
  bool can_grow(const BlockTable& table, int64_t num_positions) const;
  // Appends free kv_blocks until `table` holds num_positions. Throws Error when can_grow is false.
  void grow(BlockTable& table, int64_t num_positions);
  // A second table takes part in the first num_shared kv_blocks of `table`; they must be full, since nobody copies.
  BlockTable share(const BlockTable& table, int num_shared);
  // Gives back every kv_block of `table`, last first, and empties it. Throws Error on a kv_block that is free.
  void release(BlockTable& table);

  // Throws Error unless every kv_block is either once in the free list or held by exactly ref_count of `tables`, which
  // are all the tables there are.
  void check_integrity(std::span<const BlockTable* const> tables) const;

 private:
  int block_size_;
  std::vector<int32_t> free_;        // a stack: the block freed last is used first
  std::vector<int32_t> ref_counts_;  // [num_blocks]
};

}  // namespace comet
