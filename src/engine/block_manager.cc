// SPDX-License-Identifier: Apache-2.0
#include "engine/block_manager.h"

#include <algorithm>

#include "base/check.h"

namespace comet {

BlockManager::BlockManager(int num_blocks, int block_size, std::optional<uint64_t> cache_seed)
    : block_size_(block_size) {
  COMET_CHECK(num_blocks >= 1 && block_size >= 1, "{} kv_blocks of {} positions", num_blocks, block_size);
  if (cache_seed) cache_.emplace(num_blocks, block_size, *cache_seed);
  ref_counts_.resize(static_cast<size_t>(num_blocks), 0);
  for (int32_t block = 0; block < num_blocks; ++block) node_.push_back(free_.insert(free_.end(), block));
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
    const int32_t block = free_.front();
    if (cache_) cache_->forget(block);
    hold(block);
    table.push_back(block);
  }
}

void BlockManager::hold(int32_t block) {
  if (ref_counts_[static_cast<size_t>(block)]++ == 0)
    held_.splice(held_.end(), free_, node_[static_cast<size_t>(block)]);
}

void BlockManager::let_go(int32_t block) {
  COMET_CHECK(ref_count(block) > 0, "kv_block {} is free already", block);
  if (--ref_counts_[static_cast<size_t>(block)] > 0) return;
  const bool is_findable = cache_ && cache_->holds(block);
  free_.splice(is_findable ? free_.end() : free_.begin(), held_, node_[static_cast<size_t>(block)]);
}

void BlockManager::release(BlockTable& table) {
  for (; !table.empty(); table.pop_back()) let_go(table.back());
}

CachedPrefix BlockManager::match(PrefixId root, std::span<const int32_t> tokens) {
  CachedPrefix found{.table = {}, .prefix = root};
  const size_t size = static_cast<size_t>(block_size_);
  for (; cache_ && root != kNoPrefix && tokens.size() >= size; tokens = tokens.subspan(size)) {
    const std::optional<PrefixCache::Entry> entry = cache_->find(found.prefix, tokens.first(size));
    if (!entry) break;
    hold(entry->block);
    found.table.push_back(entry->block);
    found.prefix = entry->prefix;
  }
  return found;
}

PrefixId BlockManager::keep(PrefixId prefix, std::span<const int32_t> tokens, BlockTable& table, int index) {
  if (!cache_ || prefix == kNoPrefix) return kNoPrefix;
  int32_t& block = table.at(static_cast<size_t>(index));
  COMET_CHECK(ref_count(block) > 0, "kv_block {} is free", block);
  const std::optional<PrefixCache::Entry> entry = cache_->find(prefix, tokens);
  if (!entry) return cache_->insert(prefix, tokens, block);
  if (entry->block != block) {
    hold(entry->block);
    let_go(block);
    block = entry->block;
  }
  return entry->prefix;
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
  COMET_CHECK_EQ(free_.size() + held_.size(), ref_counts_.size());
  if (cache_) cache_->check_integrity();
}

}  // namespace comet
