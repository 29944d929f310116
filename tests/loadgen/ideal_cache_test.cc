// SPDX-License-Identifier: Apache-2.0
// The ideal caches against a model that compares whole prefixes.
#include "loadgen/ideal_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "loadgen/random.h"

namespace comet::loadgen {
namespace {

using Ids = std::vector<int32_t>;

Ids ids(int length, int first = 0) {
  Ids out;
  for (int i = 0; i < length; ++i) out.push_back(first + i);
  return out;
}

// Prefixes themselves in one list, the latest last.
class ListCache {
 public:
  explicit ListCache(size_t room) : room_(room) {}

  int64_t add(const Ids& prompt) {
    int64_t hit = 0;
    while (hit + kIdealBlock < static_cast<int64_t>(prompt.size()) && has(prefix(prompt, hit + kIdealBlock)))
      hit += kIdealBlock;
    for (int64_t end = static_cast<int64_t>(prompt.size()) / kIdealBlock * kIdealBlock; end > 0; end -= kIdealBlock) {
      std::erase(list_, prefix(prompt, end));
      list_.push_back(prefix(prompt, end));
      if (room_ > 0 && list_.size() > room_) list_.erase(list_.begin());
    }
    return hit;
  }

 private:
  static Ids prefix(const Ids& prompt, int64_t end) { return {prompt.begin(), prompt.begin() + end}; }
  bool has(const Ids& p) const { return std::find(list_.begin(), list_.end(), p) != list_.end(); }

  size_t room_;
  std::vector<Ids> list_;
};

TEST(IdealCache, TheLastTokenIsAlwaysComputed) {
  IdealCache cache(0);
  EXPECT_EQ(cache.add(ids(128)), 0);
  EXPECT_EQ(cache.add(ids(128)), 64);
  EXPECT_EQ(cache.add(ids(129)), 128);
  EXPECT_EQ(cache.add(ids(64)), 0);
  EXPECT_EQ(cache.add(ids(65)), 64);
  EXPECT_EQ(cache.add({}), 0);
}

TEST(IdealCache, ABlockCountsOnlyAfterTheSamePrefix) {
  IdealCache cache(0);
  cache.add(ids(200));
  Ids other = ids(200);
  other[3] = 9999;
  EXPECT_EQ(cache.add(other), 0);
  other = ids(200);
  other[64] = 9999;
  EXPECT_EQ(cache.add(other), 64);
}

TEST(IdealCache, WhatDoesNotFitIsForgottenFromTheEnd) {
  IdealCache cache(2);
  cache.add(ids(64 * 4 + 1));
  EXPECT_EQ(cache.size(), 2u);
  EXPECT_EQ(cache.add(ids(64 * 4 + 1)), 128);
}

TEST(IdealCache, EqualsTheModel) {
  for (const size_t room : {0, 1, 3, 7, 20}) {
    Random random(room + 1);
    IdealCache cache(room);
    ListCache model(room);
    int64_t total = 0;
    for (int i = 0; i < 400; ++i) {
      // Prompts of up to 6 blocks from 3 kinds, so that prefixes are shared in part.
      Ids prompt;
      for (int b = random.integer(0, 5); b >= 0; --b) {
        const Ids more = ids(random.integer(0, 3) == 0 ? random.integer(1, 64) : 64, 1000 * random.integer(0, 2));
        prompt.insert(prompt.end(), more.begin(), more.end());
      }
      const int64_t expected = model.add(prompt);
      ASSERT_EQ(cache.add(prompt), expected) << "prompt " << i << ", room " << room;
      total += expected;
    }
    EXPECT_GT(total, 0) << room;  // the comparison saw hits
  }
}

}  // namespace
}  // namespace comet::loadgen
