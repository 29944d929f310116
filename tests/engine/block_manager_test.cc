// SPDX-License-Identifier: Apache-2.0
#include "engine/block_manager.h"

#include <gtest/gtest.h>

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

TEST(BlockManager, SharedBlocksLiveUntilTheLastTableLetsGo) {
  BlockManager blocks(4, 16);
  BlockTable a;
  blocks.grow(a, 40);
  BlockTable b = blocks.share(a, 2);
  EXPECT_EQ(b, (BlockTable{a[0], a[1]}));
  EXPECT_EQ(blocks.ref_count(a[0]), 2);
  EXPECT_EQ(blocks.ref_count(a[2]), 1);
  EXPECT_EQ(blocks.num_free(), 1);
  check(blocks, {&a, &b});
  const int32_t first = a[0];
  blocks.release(a);
  EXPECT_EQ(blocks.num_free(), 2);
  EXPECT_EQ(blocks.ref_count(first), 1);
  blocks.grow(b, 64);
  check(blocks, {&b});
  blocks.release(b);
  EXPECT_EQ(blocks.num_free(), 4);
  check(blocks, {});
  EXPECT_THROW(blocks.share(b, 1), Error);
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
