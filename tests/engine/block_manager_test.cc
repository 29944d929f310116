// SPDX-License-Identifier: Apache-2.0
#include "engine/block_manager.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "base/check.h"

namespace comet {
namespace {

void check(const BlockManager& blocks, std::initializer_list<const BlockTable*> tables) {
  blocks.check_integrity(std::span(tables.begin(), tables.size()));
}

TEST(BlockManager, GrowsByWholeBlocks) {
  BlockManager blocks(4, 64);
  EXPECT_EQ(blocks.num_positions(), 256);
  EXPECT_EQ(blocks.blocks_for(0), 0);
  EXPECT_EQ(blocks.blocks_for(1), 1);
  EXPECT_EQ(blocks.blocks_for(64), 1);
  EXPECT_EQ(blocks.blocks_for(65), 2);
  BlockTable a, b;
  blocks.grow(a, 64);
  EXPECT_EQ(a.size(), 1u);
  blocks.grow(a, 64);
  EXPECT_EQ(a.size(), 1u);
  EXPECT_EQ(blocks.num_missing(a, 65), 1);
  blocks.grow(a, 65);
  blocks.grow(b, 100);
  EXPECT_EQ(std::set<int32_t>({a[0], a[1], b[0], b[1]}), (std::set<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(blocks.num_free(), 0);
  EXPECT_EQ(blocks.num_used(), 4);
  EXPECT_FALSE(blocks.can_grow(a, 129));
  EXPECT_TRUE(blocks.can_grow(a, 128));
  EXPECT_THROW(blocks.grow(a, 129), Error);
  EXPECT_EQ(a.size(), 2u) << "a table that cannot grow stays as it is";
  check(blocks, {&a, &b});
  blocks.release(a);
  EXPECT_TRUE(a.empty());
  EXPECT_EQ(blocks.num_free(), 2);
  blocks.grow(b, 256);
  check(blocks, {&a, &b});
}

// Tokens first, first + 1, ..
std::vector<int32_t> count_from(int32_t first, int n) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// A table that holds `tokens`, every full kv_block findable.
BlockTable fill(BlockManager& blocks, const std::vector<int32_t>& tokens, std::string_view salt = "") {
  BlockTable table;
  blocks.grow(table, static_cast<int64_t>(tokens.size()));
  const size_t size = static_cast<size_t>(blocks.block_size());
  PrefixId prefix = blocks.root(salt);
  for (size_t i = 0; (i + 1) * size <= tokens.size(); ++i)
    prefix = blocks.keep(prefix, std::span(tokens).subspan(i * size, size), table, static_cast<int>(i));
  return table;
}

TEST(BlockManager, FindsAPrefixAndSharesIt) {
  BlockManager blocks(8, 16, 5);
  BlockTable a = fill(blocks, count_from(0, 40));
  CachedPrefix found = blocks.match(blocks.root(""), count_from(0, 100));
  EXPECT_EQ(found.table, (BlockTable{a[0], a[1]})) << "the third is not full";
  EXPECT_EQ(blocks.ref_count(a[0]), 2);
  EXPECT_EQ(blocks.ref_count(a[2]), 1);
  EXPECT_EQ(blocks.num_free(), 5);
  check(blocks, {&a, &found.table});
  const int32_t first = a[0];
  blocks.release(a);
  EXPECT_EQ(blocks.num_free(), 6);
  EXPECT_EQ(blocks.ref_count(first), 1);
  blocks.release(found.table);
  EXPECT_EQ(blocks.num_free(), 8);
  check(blocks, {});
  EXPECT_EQ(blocks.match(blocks.root(""), count_from(0, 31)).table, (BlockTable{first})) << "free, and still found";
}

TEST(BlockManager, AnotherPrefixOrSaltFindsNothing) {
  BlockManager blocks(8, 4, 5);
  BlockTable a = fill(blocks, {1, 2, 3, 4, 5, 6, 7, 8});
  EXPECT_TRUE(blocks.match(blocks.root("other"), {{1, 2, 3, 4}}).table.empty());
  EXPECT_TRUE(blocks.match(blocks.root(""), {{5, 6, 7, 8}}).table.empty()) << "only behind 1 2 3 4";
  EXPECT_TRUE(blocks.match(blocks.root(""), {{1, 2, 3, 9}}).table.empty());
  CachedPrefix one = blocks.match(blocks.root(""), {{1, 2, 3, 4, 5, 6, 7, 9}});
  EXPECT_EQ(one.table, (BlockTable{a[0]}));
  BlockManager without(8, 4);
  EXPECT_EQ(without.root(""), kNoPrefix);
  BlockTable b = fill(without, {1, 2, 3, 4});
  EXPECT_TRUE(without.match(kNoPrefix, {{1, 2, 3, 4}}).table.empty());
}

TEST(BlockManager, TwoTablesWithTheSameTokensBecomeOne) {
  BlockManager blocks(8, 4, 5);
  BlockTable a, b;
  blocks.grow(a, 8);  // both computed at the same time
  blocks.grow(b, 8);
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6, 7, 8};
  const PrefixId root = blocks.root("");
  const PrefixId pa = blocks.keep(root, std::span(tokens).first(4), a, 0);
  const PrefixId pb = blocks.keep(root, std::span(tokens).first(4), b, 0);
  EXPECT_EQ(pa, pb);
  EXPECT_EQ(a[0], b[0]);
  EXPECT_EQ(blocks.num_free(), 5);
  EXPECT_EQ(blocks.keep(pa, std::span(tokens).last(4), a, 1), blocks.keep(pb, std::span(tokens).last(4), b, 1));
  EXPECT_EQ(a, b);
  check(blocks, {&a, &b});
  blocks.release(a);
  check(blocks, {&b});
  blocks.release(b);
  EXPECT_EQ(blocks.num_free(), 8);
}

TEST(BlockManager, GivesOutWhatWasUsedLongestAgoAndTheEndOfASequenceFirst) {
  BlockManager blocks(5, 4, 5);
  BlockTable a = fill(blocks, count_from(0, 8)), b = fill(blocks, count_from(100, 8));
  const BlockTable was_a = a, was_b = b;
  BlockTable c;
  blocks.grow(c, 1);  // never full: nothing to find
  const int32_t empty = c[0];
  blocks.release(a);
  blocks.release(b);
  blocks.release(c);
  CachedPrefix again = blocks.match(blocks.root(""), count_from(0, 8));  // a was used last now
  EXPECT_EQ(again.table, was_a);
  blocks.release(again.table);
  blocks.grow(c, 4 * 5);
  EXPECT_EQ(c, (BlockTable{empty, was_b[1], was_b[0], was_a[1], was_a[0]}));
  EXPECT_TRUE(blocks.match(blocks.root(""), count_from(0, 8)).table.empty());
  check(blocks, {&c});
}

TEST(BlockManager, BrokenContractsAreFound) {
  BlockManager blocks(3, 64);
  BlockTable a, b;
  blocks.grow(a, 128);
  EXPECT_THROW(check(blocks, {}), Error);        // a table is missing
  EXPECT_THROW(check(blocks, {&a, &a}), Error);  // held twice, counted once
  b = {2};
  EXPECT_THROW(check(blocks, {&a, &b}), Error);  // a free kv_block in a table
  EXPECT_THROW(blocks.release(b), Error);
  b = {3};
  EXPECT_THROW(check(blocks, {&a, &b}), Error);  // no such kv_block
  EXPECT_THROW(blocks.release(b), Error);
  check(blocks, {&a});
  BlockTable copy = a;
  blocks.release(a);
  EXPECT_THROW(blocks.release(copy), Error);  // given back twice
  EXPECT_THROW(BlockManager(0, 64), Error);
  EXPECT_THROW(BlockManager(1, 0), Error);
}

}  // namespace
}  // namespace comet
