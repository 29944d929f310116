// SPDX-License-Identifier: Apache-2.0
// Encoding, decoding and what the files of a model folder say.
#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "text/fixtures.h"

namespace comet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::filesystem::path kModel = COMET_SOURCE_DIR "/models/gutenberg-15m";

std::vector<int32_t> bytes_of(const std::string& text) {
  std::vector<int32_t> ids;
  for (char c : text) ids.push_back(static_cast<uint8_t>(c));
  return ids;
}

TEST(Tokenizer, BundledModel) {
  const Tokenizer t = Tokenizer::load(kModel);
  EXPECT_EQ(t.num_ids(), 8192);
  EXPECT_EQ(t.bos_id(), 0);
  EXPECT_EQ(t.eos_id(), 1);
  EXPECT_THAT(t.special_ids(), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(t.token(2), "<|user|>");
  EXPECT_EQ(t.token_id("<|end|>"), 1);
  EXPECT_EQ(t.token_id("no such token"), std::nullopt);
  EXPECT_FALSE(t.has_chat_template());
  EXPECT_EQ(t.config().model_max_length, 1024);
  EXPECT_EQ(t.decoder_rules().join, JoinRule::bytes);

  const std::string text = "Once upon a time, there was a café — “quoted”;\n\n\tEND\r\n 日本語 😀";
  const std::vector<int32_t> ids = t.encode(text);
  EXPECT_LT(ids.size(), text.size());
  EXPECT_EQ(t.decode(ids), text);
  std::string bytes;
  for (int32_t id : ids) bytes += t.token_bytes(id);
  EXPECT_EQ(bytes, text);
}

TEST(Tokenizer, SpecialTokensInTheTextAreTokens) {
  const Tokenizer t = Tokenizer::load(kModel);
  const std::vector<int32_t> ids = t.encode("<|user|>a<|end|>");
  ASSERT_EQ(ids.size(), 3u);
  EXPECT_EQ(ids.front(), 2);
  EXPECT_EQ(ids.back(), 1);
  EXPECT_EQ(t.decode(ids), "a");
  EXPECT_EQ(t.decode(ids, /*skip_special=*/false), "<|user|>a<|end|>");
}

TEST(Tokenizer, EveryByteOfAByteLevelVocabulary) {
  const Tokenizer t = make_tokenizer(byte_level_json());
  for (char32_t c = 0; c < 0x10FFFF; c += c < 0x3000 ? 1 : 977) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    ASSERT_EQ(t.encode(utf8(c)), bytes_of(utf8(c))) << std::hex << static_cast<uint32_t>(c);
    if (c == 0x300) c = 0x2FF0;  // each call costs a thread
  }
  for (int32_t id = 0; id < 256; ++id) EXPECT_EQ(t.token_bytes(id), std::string(1, static_cast<char>(id)));
  EXPECT_EQ(t.token_bytes(258), "<tool>");
  EXPECT_FALSE(t.is_special(258));
  EXPECT_THAT(t.special_ids(), ElementsAre(256, 257));
  EXPECT_THAT(t.added_ids(), ElementsAre(256, 257, 258));
}

TEST(Tokenizer, NulBytesAndInvalidUtf8) {
  const Tokenizer t = make_tokenizer(byte_level_json());
  EXPECT_EQ(t.encode(std::string("a\0b", 3)), bytes_of(std::string("a\0b", 3)));
  EXPECT_EQ(t.decode(bytes_of(std::string("a\0b", 3))), std::string("a\0b", 3));
  EXPECT_EQ(t.encode("a\xFF\xC3"), bytes_of("a\xEF\xBF\xBD\xEF\xBF\xBD"));
  EXPECT_EQ(t.decode(bytes_of("a\xFF\xC3")), "a\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_THAT(t.encode(""), ElementsAre());
  EXPECT_EQ(t.decode({}), "");
}

TEST(Tokenizer, ByteFallbackAndBos) {
  const Tokenizer t = make_tokenizer(byte_fallback_json());
  EXPECT_EQ(t.decoder_rules().join, JoinRule::drop_leading);
  EXPECT_THAT(t.encode("ab é"), ElementsAre(1, 267, 259, 263));  // ▁ab ▁ é
  EXPECT_THAT(t.encode("ab", false), ElementsAre(267));
  EXPECT_THAT(t.encode("\n", false), ElementsAre(259, 3 + '\n'));
  EXPECT_EQ(t.decode(t.encode("ab é")), "ab é");
  EXPECT_EQ(t.token_bytes(267), " ab");
  EXPECT_EQ(t.token_bytes(3 + 0xE2), "\xE2");
  EXPECT_EQ(t.token(3 + 0xE2), "<0xE2>");
}

TEST(Tokenizer, IdsThatAreNoToken) {
  const Tokenizer t = make_tokenizer(byte_level_json());
  for (int32_t id : {-1, 259, INT32_MAX, INT32_MIN}) {
    EXPECT_FALSE(t.has_id(id));
    EXPECT_FALSE(t.is_special(id));
    EXPECT_THAT(error_of([&] { t.decode(std::vector<int32_t>{65, id}); }), HasSubstr(std::to_string(id)));
    EXPECT_THAT(error_of([&] { t.token(id); }), HasSubstr("below 259"));
    EXPECT_THROW(t.token_bytes(id), InvalidInput);
    EXPECT_THROW(Detokenizer(t).push(id), InvalidInput);
  }
}

TEST(Tokenizer, TextThatIsTooLong) {
  const Tokenizer t = make_tokenizer(byte_level_json());
  const std::string text(Tokenizer::kMaxTextBytes + 1, 'a');
  EXPECT_THAT(error_of([&] { t.encode(text); }), HasSubstr("too long"));
}

TEST(Tokenizer, TruncationAndPaddingOfTheFileAreIgnored) {
  Json json = byte_level_json();
  json["truncation"] = {{"max_length", 2}, {"strategy", "LongestFirst"}, {"stride", 0}, {"direction", "Right"}};
  json["padding"] = {
      {"strategy", {{"Fixed", 8}}}, {"direction", "Right"},  {"pad_to_multiple_of", nullptr}, {"pad_id", 257},
      {"pad_type_id", 0},           {"pad_token", "<|end|>"}};
  EXPECT_THAT(make_tokenizer(json).encode("abc"), ElementsAre('a', 'b', 'c'));
}

TEST(Tokenizer, AddBosAndEosOverruleTheFile) {
  TokenizerConfig config;
  config.special_tokens = {{"bos_token", "<|begin|>"}, {"eos_token", "<|end|>"}};
  config.add_bos_token = config.add_eos_token = true;
  const Tokenizer added = make_tokenizer(byte_level_json(), config);
  EXPECT_THAT(added.encode("a"), ElementsAre(256, 'a', 257));
  EXPECT_THAT(added.encode("a", false), ElementsAre('a'));

  config.special_tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  config.add_eos_token = std::nullopt;
  EXPECT_THAT(make_tokenizer(byte_fallback_json(), config).encode("ab"), ElementsAre(1, 267));
  config.add_bos_token = false;
  EXPECT_THAT(make_tokenizer(byte_fallback_json(), config).encode("ab"), ElementsAre(267));
}

TEST(Tokenizer, AddedTokensOfTheConfig) {
  TokenizerConfig config;
  config.added_tokens = {{.text = "<|end|>", .id = 257},
                         {.text = "<new>", .id = 259},
                         {.text = "a", .id = std::nullopt, .special = false}};
  config.special_tokens["eos_token"] = "<new>";
  const Tokenizer t = make_tokenizer(byte_level_json(), config);
  EXPECT_THAT(t.encode("<new>a"), ElementsAre(259, 'a'));
  EXPECT_EQ(t.eos_id(), 259);
  EXPECT_TRUE(t.is_special(259));
  EXPECT_FALSE(t.is_special('a'));
  config.added_tokens[1].id = 300;
  EXPECT_THAT(error_of([&] { make_tokenizer(byte_level_json(), config); }),
              HasSubstr("\"<new>\" has the id 259, but 300"));
}

TEST(Tokenizer, OneObjectFromManyThreads) {
  const Tokenizer t = Tokenizer::load(kModel);
  const std::string text = "It was the best of times, it was the worst of times.";
  const std::vector<int32_t> ids = t.encode(text);
  std::vector<std::thread> threads;
  std::atomic<int> num_wrong = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 25; ++n) num_wrong += t.encode(text) != ids || t.decode(ids) != text;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_wrong, 0);
}

TEST(Tokenizer, MissingFiles) {
  const TempFolder folder;
  EXPECT_THAT(error_of([&] { Tokenizer::load(folder.path()); }),
              HasSubstr("missing tokenizer.json in " + folder.path().string()));
  EXPECT_THAT(error_of([&] { Tokenizer::load(folder.path() / "nowhere"); }), HasSubstr("no folder"));
  folder.write("tokenizer.json", byte_level_json().dump());
  const Tokenizer t = Tokenizer::load(folder.path());  // nothing else is needed
  EXPECT_EQ(t.eos_id(), std::nullopt);
  EXPECT_FALSE(t.has_chat_template());
  std::filesystem::remove(folder.path() / "tokenizer.json");
  std::filesystem::create_directory(folder.path() / "tokenizer.json");
  EXPECT_THAT(error_of([&] { Tokenizer::load(folder.path()); }), HasSubstr("is not a file"));
}

}  // namespace
}  // namespace comet
