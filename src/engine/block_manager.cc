// SPDX-License-Identifier: Apache-2.0
#include "engine/block_manager.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace comet {

BlockManager::BlockManager(int num_blocks, int block_size) : block_size_(block_size) {
  COMET_CHECK(num_blocks >= 1 && block_size >= 1, "{} kv_blocks of {} positions", num_blocks, block_size);
  ref_counts_.resize(static_cast<size_t>(num_blocks), 0);
  free_.resize(static_cast<size_t>(num_blocks));
  std::iota(free_.rbegin(), free_.rend(), 0);  // block 0 is used first
}

int BlockManager::blocks_for(int64_t num_positions) const {
  return static_cast<int>((num_positions + block_size_ - 1) / block_size_);
}

int BlockManager::ref_count(int32_t block) const {
  COMET_CHECK(block >= 0 && block < num_blocks(), "kv_block {} of {}", block, num_blocks());
  return ref_counts_[static_cast<size_t>(block)];
}

int BlockManager::num_missing(const BlockTable& table, int64_t num_positions) const {
  return std::max(0, blocks_for(num_positions) - static_cast<int>(table.size()));
}

bool BlockManager::can_grow(const BlockTable& table, int64_t num_positions) const {
  return num_missing(table, num_positions) <= num_free();
}

void BlockManager::grow(BlockTable& table, int64_t num_positions) {
  COMET_CHECK(can_grow(table, num_positions), "{} positions, {} kv_blocks held, {} free", num_positions, table.size(),
              num_free());
  for (int missing = num_missing(table, num_positions); missing > 0; --missing) {
    const int32_t block = free_.back();
    free_.pop_back();
    ref_counts_[static_cast<size_t>(block)] = 1;
    table.push_back(block);
  }
}

BlockTable BlockManager::share(const BlockTable& table, int num_shared) {
  COMET_CHECK(num_shared >= 0 && static_cast<size_t>(num_shared) <= table.size(), "{} of {}", num_shared, table.size());
  for (int i = 0; i < num_shared; ++i)
    COMET_CHECK(ref_count(table[static_cast<size_t>(i)]) > 0, "kv_block {} is free", table[static_cast<size_t>(i)]);
  BlockTable shared(table.begin(), table.begin() + num_shared);
  for (const int32_t block : shared) ref_counts_[static_cast<size_t>(block)] += 1;
  return shared;
}

void BlockManager::release(BlockTable& table) {
  for (; !table.empty(); table.pop_back()) {
    const int32_t block = table.back();
    COMET_CHECK(ref_count(block) > 0, "kv_block {} is free already", block);
    if (--ref_counts_[static_cast<size_t>(block)] == 0) free_.push_back(block);
  }
}

void BlockManager::check_integrity(std::span<const BlockTable* const> tables) const {
  std::vector<int32_t> held(ref_counts_.size(), 0), free(ref_counts_.size(), 0);
  const auto count = [&](std::vector<int32_t>& counts, int32_t block) {
    COMET_CHECK(block >= 0 && block < num_blocks(), "kv_block {} of {}", block, num_blocks());
    counts[static_cast<size_t>(block)] += 1;
  };
  for (const BlockTable* table : tables)
    for (const int32_t block : *table) count(held, block);
  for (const int32_t block : free_) count(free, block);
  for (size_t block = 0; block < held.size(); ++block) {
    COMET_CHECK(held[block] == ref_counts_[block], "kv_block {}: {} tables hold it, ref_count {}", block, held[block],
                ref_counts_[block]);
    COMET_CHECK(free[block] == (held[block] == 0 ? 1 : 0), "kv_block {}: {} tables hold it, {} times in the free list",
                block, held[block], free[block]);
  }
}

}  // namespace comet
