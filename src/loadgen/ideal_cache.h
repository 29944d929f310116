// SPDX-License-Identifier: Apache-2.0
// What a prefix cache could have had at best: prompts one after another, kv_blocks by all tokens up to their end.
#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>

namespace comet::loadgen {

constexpr int kIdealBlock = 64;  // tokens

class IdealCache {
 public:
  // num_blocks: room; the kv_block that was used longest ago goes first. 0: nothing ever goes.
  explicit IdealCache(size_t num_blocks) : num_blocks_(num_blocks) {}

  // Tokens of the prompt that are there, whole kv_blocks from its beginning and never its last token, which has to be
  // computed. Then all its whole kv_blocks are there, as far as they fit.
  int64_t add(std::span<const int32_t> prompt);

  size_t size() const { return places_.size(); }

 private:
  size_t num_blocks_;
  std::list<uint64_t> order_;  // the latest first
  std::unordered_map<uint64_t, std::list<uint64_t>::iterator> places_;
};

}  // namespace comet::loadgen
