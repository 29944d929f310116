// SPDX-License-Identifier: Apache-2.0
// Stop strings in text that arrives in pieces, against a search of the whole text.
#include "frontend/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

#include "base/check.h"

namespace comet {
namespace {

struct Outcome {
  std::string text;
  bool stopped = false;
  bool operator==(const Outcome&) const = default;
};

// What a client sees of the pieces.
Outcome feed(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopStrings s(stops);
  Outcome out;
  for (const std::string& piece : pieces) {
    const StopStrings::Found found = s.push(piece);
    out.text += found.text;
    if (found.stopped) {
      out.stopped = true;
      return out;
    }
  }
  out.text += s.flush();
  return out;
}

TEST(StopStrings, AcrossPieces) {
  EXPECT_EQ(feed({"STOP"}, {"aS", "TO", "Pb"}), (Outcome{"a", true}));
  EXPECT_EQ(feed({"STOP"}, {"aS", "TO", "b"}), (Outcome{"aSTOb", false}));
  EXPECT_EQ(feed({"STOP"}, {"STSTOP"}), (Outcome{"ST", true}));
  EXPECT_EQ(feed({"STOP"}, {"ST", "STO", "P"}), (Outcome{"ST", true}));
  EXPECT_EQ(feed({"x"}, {"", "x", "y"}), (Outcome{"", true}));
  EXPECT_EQ(feed({}, {"a", "b"}), (Outcome{"ab", false}));
  EXPECT_EQ(feed({"bc", "abcd"}, {"xab", "c", "d"}), (Outcome{"xa", true}));  // known first
  EXPECT_EQ(feed({"bc", "abcd"}, {"xab", "cd"}), (Outcome{"x", true}));  // known together: the one that begins first
}

TEST(StopStrings, HoldsBackOnlyWhatMayBecomeOne) {
  StopStrings s({"STOP"});
  EXPECT_EQ(s.push("hello S").text, "hello ");
  EXPECT_EQ(s.push("T").text, "");
  EXPECT_EQ(s.push("x").text, "STx");
}

TEST(StopStrings, ReportsWhichOne) {
  StopStrings s({"end", "\n"});
  EXPECT_EQ(s.push("a\nend").match, "\n");
}

// A text stops at the first end of a match as it arrives; over an alphabet of two letters nearly everything overlaps.
TEST(StopStrings, RandomPieces) {
  std::mt19937 random(17);
  auto random_text = [&](size_t length) {
    std::string s;
    for (size_t i = 0; i < length; ++i) s += static_cast<char>('a' + random() % 2);
    return s;
  };
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops, pieces;
    for (size_t i = 0; i < 1 + random() % 3; ++i) stops.push_back(random_text(3 + random() % 4));
    std::string whole;
    for (int i = 0; i < 12; ++i)
      whole += pieces.emplace_back(random_text(1));  // single letters: no piece holds two matches
    size_t end = std::string::npos,
           begin = std::string::npos;  // of the match that ends first; of those the one that begins first
    for (const std::string& stop : stops)
      if (const size_t at = whole.find(stop);
          at != std::string::npos && (at + stop.size() < end || (at + stop.size() == end && at < begin))) {
        end = at + stop.size();
        begin = at;
      }
    const Outcome want = end == std::string::npos ? Outcome{whole, false} : Outcome{whole.substr(0, begin), true};
    EXPECT_EQ(feed(stops, pieces), want) << whole << " " << stops[0];
  }
}

TEST(StopStrings, Limits) {
  EXPECT_THROW(StopStrings({""}), InvalidInput);
  EXPECT_THROW(StopStrings(std::vector<std::string>(65, "x")), InvalidInput);
  EXPECT_THROW(StopStrings({std::string(4097, 'x')}), InvalidInput);
}

}  // namespace
}  // namespace comet
