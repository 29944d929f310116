// SPDX-License-Identifier: Apache-2.0
#include "engine/random.h"

#include <gtest/gtest.h>

#include <set>

namespace comet {
namespace {

using Words = std::array<uint32_t, 4>;

// The known answers that Random123 publishes for philox4x32-10 (kat_vectors).
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, BitsComeFromSeedChoiceAndPosition) {
  EXPECT_EQ(random_bits(0, 0, 0), 0xe169c58d6627e8d5u);  // words 1 and 0 of the first known answer
  const Words words = philox4x32({7, 3, 0, 0}, {0x89abcdef, 0x01234567});
  EXPECT_EQ(random_bits(0x0123456789abcdef, 3, 7), (uint64_t{words[1]} << 32 | words[0]));
}

TEST(Random, NeighboursDiffer) {
  std::set<uint64_t> seen;
  for (uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32})
    for (uint32_t choice = 0; choice < 4; ++choice)
      for (uint32_t position = 0; position < 100; ++position) seen.insert(random_bits(seed, choice, position));
  EXPECT_EQ(seen.size(), 3u * 4 * 100);
}

TEST(Random, DrawnSeedsDiffer) { EXPECT_NE(draw_seed(), draw_seed()); }

}  // namespace
}  // namespace comet
