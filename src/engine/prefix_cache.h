// SPDX-License-Identifier: Apache-2.0
// Which kv_block holds which tokens after which prefix. Ids only, no memory.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace comet {

// Names all tokens from the first of a sequence to the end of one kv_block; two prefixes never have the same.
using PrefixId = uint64_t;
constexpr PrefixId kNoPrefix = 0;

// Entries are found by a hash with a secret seed, and count only when tokens and prefix are equal: a collision costs
// an entry, never an answer.
class PrefixCache {
 public:
  PrefixCache(int num_blocks, int block_size, uint64_t seed);

  struct Entry {
    int32_t block;
    PrefixId prefix;  // up to the end of the block
  };

  // The empty prefix of everything that may share kv_blocks: requests with another salt have another one.
  PrefixId root(std::string_view salt) const;
  // The kv_block that holds `tokens` (block_size of them) after `prefix`.
  std::optional<Entry> find(PrefixId prefix, std::span<const int32_t> tokens) const;
  // Notes that `block` holds them; it must not be noted already. kNoPrefix when another entry is in the way.
  PrefixId insert(PrefixId prefix, std::span<const int32_t> tokens, int32_t block);
  // `block` will hold something else. Nothing happens when it is not noted.
  void forget(int32_t block);

  bool holds(int32_t block) const { return blocks_[static_cast<size_t>(block)].prefix != kNoPrefix; }
  int num_entries() const { return static_cast<int>(by_hash_.size()); }
  // Throws Error when entries and kv_blocks do not agree.
  void check_integrity() const;

 private:
  struct Block {
    uint64_t hash = 0;
    PrefixId before = kNoPrefix, prefix = kNoPrefix;  // prefix == kNoPrefix: not noted
  };

  uint64_t hash(PrefixId prefix, std::span<const int32_t> tokens) const;
  std::span<const int32_t> tokens_of(int32_t block) const;

  size_t block_size_;
  uint64_t seed_;
  PrefixId last_ = kNoPrefix;
  std::vector<Block> blocks_;    // [num_blocks]
  std::vector<int32_t> tokens_;  // [num_blocks][block_size]
  std::unordered_map<uint64_t, int32_t> by_hash_;
};

}  // namespace comet
