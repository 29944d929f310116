// SPDX-License-Identifier: Apache-2.0
#include "engine/prefix_cache.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

#include "base/check.h"

namespace comet {

PrefixCache::PrefixCache(int num_blocks, int block_size, uint64_t seed)
    : block_size_(static_cast<size_t>(block_size)), seed_(seed) {
  blocks_.resize(static_cast<size_t>(num_blocks));
  tokens_.resize(blocks_.size() * block_size_);
}

// Roots have the top bit, which no count of kv_blocks reaches.
PrefixId PrefixCache::root(std::string_view salt) const {
  return XXH3_64bits_withSeed(salt.data(), salt.size(), seed_) | uint64_t{1} << 63;
}

uint64_t PrefixCache::hash(PrefixId prefix, std::span<const int32_t> tokens) const {
  const uint64_t seed = XXH3_64bits_withSeed(&prefix, sizeof prefix, seed_);
  return XXH3_64bits_withSeed(tokens.data(), tokens.size_bytes(), seed);
}

std::span<const int32_t> PrefixCache::tokens_of(int32_t block) const {
  return std::span(tokens_).subspan(static_cast<size_t>(block) * block_size_, block_size_);
}

std::optional<PrefixCache::Entry> PrefixCache::find(PrefixId prefix, std::span<const int32_t> tokens) const {
  COMET_CHECK_EQ(tokens.size(), block_size_);
  const auto it = by_hash_.find(hash(prefix, tokens));
  if (it == by_hash_.end()) return std::nullopt;
  const int32_t block = it->second;
  const Block& b = blocks_[static_cast<size_t>(block)];
  if (b.before != prefix || !std::ranges::equal(tokens_of(block), tokens)) return std::nullopt;
  return Entry{block, b.prefix};
}

PrefixId PrefixCache::insert(PrefixId prefix, std::span<const int32_t> tokens, int32_t block) {
  COMET_CHECK_EQ(tokens.size(), block_size_);
  COMET_CHECK(!holds(block), "kv_block {} is noted already", block);
  const uint64_t h = hash(prefix, tokens);
  if (!by_hash_.emplace(h, block).second) return kNoPrefix;
  std::ranges::copy(tokens, tokens_.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(block) * block_size_));
  blocks_[static_cast<size_t>(block)] = {.hash = h, .before = prefix, .prefix = ++last_};
  return last_;
}

void PrefixCache::forget(int32_t block) {
  if (!holds(block)) return;
  Block& b = blocks_[static_cast<size_t>(block)];
  by_hash_.erase(b.hash);
  b = {};
}

void PrefixCache::check_integrity() const {
  size_t num_noted = 0;
  for (int32_t block = 0; block < static_cast<int32_t>(blocks_.size()); ++block) {
    if (!holds(block)) continue;
    num_noted += 1;
    const Block& b = blocks_[static_cast<size_t>(block)];
    const auto it = by_hash_.find(b.hash);
    COMET_CHECK(it != by_hash_.end() && it->second == block, "kv_block {} is noted but not found", block);
    COMET_CHECK(b.hash == hash(b.before, tokens_of(block)), "kv_block {}: its tokens have another hash", block);
  }
  COMET_CHECK_EQ(num_noted, by_hash_.size());
}

}  // namespace comet
