// SPDX-License-Identifier: Apache-2.0
#include "loadgen/ideal_cache.h"

#include <vector>

#include "loadgen/random.h"

namespace comet::loadgen {

int64_t IdealCache::add(std::span<const int32_t> prompt) {
  const size_t num_full = prompt.size() / kIdealBlock;
  const size_t most_hits = prompt.empty() ? 0 : (prompt.size() - 1) / kIdealBlock;
  std::vector<uint64_t> names;  // of all tokens up to the end of each kv_block
  uint64_t name = 0;
  for (size_t b = 0; b < num_full; ++b) {
    for (const int32_t id : prompt.subspan(b * kIdealBlock, kIdealBlock)) name = mix(name ^ static_cast<uint32_t>(id));
    names.push_back(name);
  }
  size_t hits = 0;
  while (hits < most_hits && places_.contains(names[hits])) ++hits;
  // From the last one: the beginning, without which the rest is of no use, is then the latest.
  for (size_t b = num_full; b-- > 0;) {
    const auto found = places_.find(names[b]);
    if (found != places_.end()) {
      order_.splice(order_.begin(), order_, found->second);
      continue;
    }
    order_.push_front(names[b]);
    places_[names[b]] = order_.begin();
    if (num_blocks_ == 0 || places_.size() <= num_blocks_) continue;
    places_.erase(order_.back());
    order_.pop_back();
  }
  return static_cast<int64_t>(hits) * kIdealBlock;
}

}  // namespace comet::loadgen
