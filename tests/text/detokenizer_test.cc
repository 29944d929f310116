// SPDX-License-Identifier: Apache-2.0
// Pieces put together equal the whole text, whatever the decoder, and no piece ends in half a character.
#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "text/fixtures.h"
#include "text/utf8.h"

namespace comet {
namespace {

// Everything that comes out for `ids`; each piece must be whole characters.
std::string stream(Detokenizer& d, std::span<const int32_t> ids) {
  std::string text;
  for (int32_t id : ids) {
    const std::string piece = d.push(id);
    EXPECT_EQ(to_valid_utf8(piece), piece);
    text += piece;
  }
  return text + d.flush();
}

std::string stream(const Tokenizer& t, std::span<const int32_t> ids, bool skip_special = true) {
  Detokenizer d(t, {}, skip_special);
  return stream(d, ids);
}

const char* const kTexts[] = {"Once upon a time",
                              " two  spaces ",
                              "",
                              " ",
                              "  ",
                              "\n",
                              "é",
                              "日本語",
                              "a😀b👩‍👩‍👧‍👦c",
                              "ab ab é\tab\n\nab",
                              "नमस्ते",
                              "naïve café — “q”",
                              "\xEF\xBF\xBD",
                              "a\xEF\xBF\xBD",
                              "tail \xEF\xBF\xBD\xEF\xBF\xBD b"};

TEST(Detokenizer, AnyTextWithAnyTokenizer) {
  for (const Json& json : {byte_level_json(), byte_fallback_json()}) {
    const Tokenizer t = make_tokenizer(json);
    for (const char* text : kTexts) {
      const std::vector<int32_t> ids = t.encode(text);
      EXPECT_EQ(stream(t, ids), t.decode(ids)) << text;
      EXPECT_EQ(stream(t, ids, false), t.decode(ids, false)) << text;
    }
  }
}

TEST(Detokenizer, RandomBytesAndSpecialTokens) {
  const Tokenizer t = make_tokenizer(byte_level_json());
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<int32_t> ids(1 + random() % 24);
    // Mostly bytes from 0x80 on, so that all kinds of broken sequences come up.
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % 4 == 0 ? random() % 259 : 0x80 + random() % 0x80);
    ASSERT_EQ(stream(t, ids), t.decode(ids));
    ASSERT_EQ(stream(t, ids, false), t.decode(ids, false));
  }
}

TEST(Detokenizer, RandomTokensOfTheBundledModel) {
  const Tokenizer t = Tokenizer::load(COMET_SOURCE_DIR "/models/gutenberg-15m");
  std::mt19937 random(11);
  for (int round = 0; round < 100; ++round) {
    std::vector<int32_t> ids(1 + random() % 100);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % static_cast<uint32_t>(t.num_ids()));
    ASSERT_EQ(stream(t, ids), t.decode(ids));
  }
}

TEST(Detokenizer, ACharacterComesWithItsLastByte) {
  for (const bool fallback : {false, true}) {
    const Tokenizer t = make_tokenizer(fallback ? byte_fallback_json() : byte_level_json());
    const int32_t first = fallback ? 3 : 0;
    for (char32_t c :
         {U'\0', U'A', U'\x7F', U'\x80', U'é', U'\x7FF', U'\x800', U'€', U'\xFFFD', U'\xFFFF', U'😀', U'\x10FFFF'}) {
      Detokenizer d(t);
      const std::string whole = utf8(c);
      for (size_t i = 0; i < whole.size(); ++i) {
        EXPECT_EQ(d.push(first + static_cast<uint8_t>(whole[i])), i + 1 == whole.size() ? whole : "");
      }
      EXPECT_EQ(d.flush(), "");
      // Cut anywhere: one U+FFFD at the end.
      for (size_t size = 1; size < whole.size(); ++size) {
        for (size_t i = 0; i < size; ++i) EXPECT_EQ(d.push(first + static_cast<uint8_t>(whole[i])), "");
        EXPECT_EQ(d.flush(), "\xEF\xBF\xBD");
        EXPECT_EQ(d.flush(), "");
      }
    }
  }
}

TEST(Detokenizer, BrokenBytesComeAsSoonAsTheyAreKnownToBe) {
  const Tokenizer t = make_tokenizer(byte_level_json());
  Detokenizer d(t);
  EXPECT_EQ(d.push(0xE2), "");
  EXPECT_EQ(d.push(0x82), "");
  EXPECT_EQ(d.push('a'),
            "\xEF\xBF\xBD"
            "a");
  EXPECT_EQ(d.push(0xFF), "\xEF\xBF\xBD");
  EXPECT_EQ(d.push(0xC3), "");
  EXPECT_EQ(d.push(257), "");  // a special token in between says nothing
  EXPECT_EQ(d.push(0xA9), "é");
}

TEST(Detokenizer, ALlamaTextLosesOneLeadingSpaceOnly) {
  const Tokenizer t = make_tokenizer(byte_fallback_json());
  const int32_t a = *t.token_id("▁a"), space = *t.token_id("▁"), spaces = *t.token_id("▁▁"), b = *t.token_id("b");
  const std::vector<std::vector<int32_t>> cases = {{a, a},        {b, a},       {space, a},    {spaces, a},
                                                   {1, a, 2, a},  {3 + ' ', a}, {a, space, b}, {space, space},
                                                   {1, 1, space}, {a}};
  for (const auto& ids : cases) EXPECT_EQ(stream(t, ids), t.decode(ids)) << testing::PrintToString(ids);
  EXPECT_EQ(stream(t, std::vector<int32_t>{a, a}), "a a");
}

TEST(Detokenizer, AContinuationKeepsItsSpace) {
  for (const Json& json :
       {byte_level_json(), byte_fallback_json(),
        words_json({"?", "ab", "c"}, R"({"type": "WordPiece", "prefix": "##", "cleanup": false})")}) {
    const Tokenizer t = make_tokenizer(json);
    const std::vector<int32_t> ids = t.encode("ab c ab ab c");
    const std::string whole = t.decode(ids);
    for (size_t cut = 0; cut <= ids.size(); ++cut) {
      const auto head = std::span(ids).first(cut), tail = std::span(ids).subspan(cut);
      Detokenizer d(t, head);
      EXPECT_EQ(t.decode(head) + stream(d, tail), whole) << cut;
    }
  }
}

TEST(Detokenizer, AContinuationFinishesACharacterOfTheContext) {
  const Tokenizer t = make_tokenizer(byte_level_json());
  const std::vector<int32_t> context = {'a', 0xE2, 0x82};
  Detokenizer d(t, context);
  EXPECT_EQ(d.push(0xAC), "€");
}

TEST(Detokenizer, DecodersThatLookAtNeighbours) {
  const std::vector<std::string> words = {"?", "play", "##ing", "##s", "well", "low</w>", "er", "###"};
  const std::vector<std::string> decoders = {
      R"({"type": "WordPiece", "prefix": "##", "cleanup": true})",
      R"({"type": "BPEDecoder", "suffix": "</w>"})",
      R"({"type": "Metaspace", "replacement": "#", "prepend_scheme": "always", "split": true})",
      R"({"type": "Sequence", "decoders": [
          {"type": "Fuse"}, {"type": "Replace", "pattern": {"String": "#"}, "content": " "}]})",
      "null",
  };
  std::mt19937 random(3);
  for (const std::string& decoder : decoders) {
    const Tokenizer t = make_tokenizer(words_json(words, decoder));
    for (int round = 0; round < 30; ++round) {
      std::vector<int32_t> ids(1 + random() % 20);
      for (int32_t& id : ids) id = static_cast<int32_t>(random() % (words.size() + 1));  // the last is special
      ASSERT_EQ(stream(t, ids), t.decode(ids)) << decoder << testing::PrintToString(ids);
    }
  }
}

TEST(Detokenizer, TokensWithoutTextDoNotPileUp) {
  const Tokenizer t = make_tokenizer(words_json({"?", "", "a"}, "null"));
  ASSERT_EQ(t.decoder_rules().join, JoinRule::window);
  Detokenizer d(t);
  std::string text;
  for (int i = 0; i < 200; ++i) text += d.push(1);
  text += d.push(2);
  EXPECT_TRUE((text + d.flush()).ends_with("a"));
}

TEST(Detokenizer, FlushStartsAnew) {
  const Tokenizer t = make_tokenizer(byte_fallback_json());
  Detokenizer d(t);
  const std::vector<int32_t> ids = t.encode("ab ab");
  EXPECT_EQ(stream(d, ids), "ab ab");
  EXPECT_EQ(stream(d, ids), "ab ab");
}

}  // namespace
}  // namespace comet
