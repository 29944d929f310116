// SPDX-License-Identifier: Apache-2.0
// Every character cut at every place, and the Unicode standard's examples of what is not UTF-8.
#include "text/utf8.h"

#include <gtest/gtest.h>

#include "text/fixtures.h"

namespace comet {
namespace {

constexpr const char* kBad = "\xEF\xBF\xBD";

TEST(Utf8, EveryCharacterCutEverywhere) {
  for (char32_t c = 1; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    const std::string whole = utf8(c);
    std::string pending, out;
    for (size_t i = 0; i < whole.size(); ++i) {
      pending += whole[i];
      out = take_valid_utf8(pending);
      ASSERT_EQ(out, i + 1 == whole.size() ? whole : "") << std::hex << static_cast<uint32_t>(c);
      ASSERT_EQ(to_valid_utf8(whole.substr(0, i + 1)), i + 1 == whole.size() ? whole : kBad)
          << std::hex << static_cast<uint32_t>(c);
    }
    ASSERT_EQ(pending, "") << std::hex << static_cast<uint32_t>(c);
  }
}

TEST(Utf8, MaximalPartsBecomeOneReplacementEach) {
  const std::string bad = kBad;
  const std::vector<std::pair<std::string, std::string>> cases = {
      // Tables 3-8 to 3-11 of the standard: overlong forms, surrogates, beyond U+10FFFF, truncated sequences.
      {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", bad + bad + bad + bad + bad + bad + bad + bad + "A"},
      {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", bad + bad + bad + bad + bad + bad + bad + bad + "A"},
      {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", bad + bad + bad + bad + bad + "A" + bad + bad + "B"},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", bad + bad + bad + bad + "A"},
      {"\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64",
       "a" + bad + bad + bad + "b" + bad + "c" + bad + bad + "d"},
      {std::string("a\0b", 3), std::string("a\0b", 3)},
      {"", ""},
  };
  for (const auto& [bytes, text] : cases) {
    EXPECT_EQ(to_valid_utf8(bytes), text);
    std::string pending, out;
    for (char c : bytes) {
      pending += c;
      out += take_valid_utf8(pending);
    }
    EXPECT_EQ(out + to_valid_utf8(pending), text);
  }
}

TEST(Utf8, AtMostThreeBytesAreHeldBack) {
  uint64_t state = 1;
  std::string pending;
  for (int i = 0; i < 200000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    pending += static_cast<char>(state >> 56);
    take_valid_utf8(pending);
    ASSERT_LE(pending.size(), 3u);
  }
}

}  // namespace
}  // namespace comet
