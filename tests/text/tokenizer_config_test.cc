// SPDX-License-Identifier: Apache-2.0
// Both spellings of tokenizer_config.json, the files beside it, and wrong types in them.
#include "text/tokenizer_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/fixtures.h"

namespace comet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(TokenizerConfig, Transformers4) {
  const TempFolder folder;
  folder.write("tokenizer_config.json", R"({
    "added_tokens_decoder": {
      "10": {"content": "<late>", "lstrip": false, "normalized": true, "rstrip": true, "single_word": false, "special": false},
      "2": {"content": "</s>", "lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "special": true}},
    "additional_special_tokens": ["<extra>", {"content": "<other>", "lstrip": true}],
    "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null,
    "add_bos_token": true, "add_eos_token": null, "chat_template": "hello", "model_max_length": 1000000000000000019884624838656,
    "tokenizer_class": "LlamaTokenizer"})");
  folder.write("special_tokens_map.json", R"({"bos_token": "<ignored>", "unk_token": {"content": "<unk>"}})");
  const TokenizerConfig config = TokenizerConfig::load(folder.path());
  EXPECT_EQ(config.special_tokens,
            (std::map<std::string, std::string>{{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}}));
  std::vector<std::string> added;
  for (const AddedToken& t : config.added_tokens) added.push_back(t.text);
  EXPECT_THAT(added, testing::ElementsAre("</s>", "<late>", "<s>", "<extra>", "<other>", "<unk>"));
  EXPECT_EQ(config.added_tokens[1].id, 10);
  EXPECT_FALSE(config.added_tokens[1].special);
  EXPECT_TRUE(config.added_tokens[1].rstrip);
  EXPECT_TRUE(config.added_tokens[4].lstrip);
  EXPECT_EQ(config.add_bos_token, true);
  EXPECT_EQ(config.add_eos_token, std::nullopt);
  EXPECT_EQ(config.model_max_length, std::nullopt);
  EXPECT_EQ(config.chat_templates.at("default").source, "hello");
}

TEST(TokenizerConfig, Transformers5) {
  const TempFolder folder;
  folder.write("tokenizer_config.json", R"({"backend": "tokenizers", "bos_token": "<s>", "eos_token": "</s>",
    "extra_special_tokens": {"image_token": "<image>"}, "is_local": true, "model_max_length": 4096})");
  folder.write("chat_template.jinja", "from a file");
  folder.write("additional_chat_templates/tool_use.jinja", "with tools");
  const TokenizerConfig config = TokenizerConfig::load(folder.path());
  EXPECT_EQ(config.special_tokens.at("image_token"), "<image>");
  EXPECT_EQ(config.model_max_length, 4096);
  EXPECT_EQ(config.chat_templates.at("default").source, "from a file");
  EXPECT_EQ(config.chat_templates.at("tool_use").source, "with tools");
}

TEST(TokenizerConfig, NamedTemplatesAndTheFileThatBeatsThem) {
  const TempFolder folder;
  folder.write("tokenizer_config.json",
               R"({"chat_template": [{"name": "default", "template": "a"}, {"name": "rag", "template": "b"}]})");
  EXPECT_EQ(TokenizerConfig::load(folder.path()).chat_templates.at("rag").source, "b");
  EXPECT_EQ(TokenizerConfig::load(folder.path()).chat_templates.at("default").source, "a");
  folder.write("chat_template.jinja", "c");
  EXPECT_EQ(TokenizerConfig::load(folder.path()).chat_templates.at("default").source, "c");
}

TEST(TokenizerConfig, WrongTypesNameFileAndKey) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"bos_token": 3})", "bos_token"},
      {R"({"bos_token": {"no": "content"}})", "bos_token"},
      {R"({"eos_token": ["a"]})", "eos_token"},
      {R"({"add_bos_token": "yes"})", "add_bos_token"},
      {R"({"chat_template": 5})", "chat_template"},
      {R"({"chat_template": [{"name": "x"}]})", "chat_template"},
      {R"({"chat_template": ["x"]})", "chat_template"},
      {R"({"added_tokens_decoder": []})", "added_tokens_decoder"},
      {R"({"added_tokens_decoder": {"one": {"content": "a"}}})", "added_tokens_decoder"},
      {R"({"added_tokens_decoder": {"-1": {"content": "a"}}})", "added_tokens_decoder"},
      {R"({"added_tokens_decoder": {"1": {"content": "a", "special": 1}}})", "added_tokens_decoder"},
      {R"({"additional_special_tokens": "x"})", "additional_special_tokens"},
      {R"({"extra_special_tokens": [1]})", "extra_special_tokens"},
      {R"([1, 2])", "not a JSON object"},
      {R"({"bos_token": )", "parse error"},
      {std::string(100000, '['), "parse error"},
      {"", "parse error"},
      {"\xFF\xFE", "parse error"},
  };
  const TempFolder folder;
  for (const auto& [text, what] : cases) {
    folder.write("tokenizer_config.json", text);
    EXPECT_THAT(error_of([&] { TokenizerConfig::load(folder.path()); }),
                AllOf(HasSubstr("tokenizer_config.json"), HasSubstr(what)));
  }
}

TEST(TokenizerConfig, FilesThatAreTooLarge) {
  const TempFolder folder;
  folder.write("chat_template.jinja", std::string((1 << 20) + 1, 'a'));
  EXPECT_THAT(error_of([&] { TokenizerConfig::load(folder.path()); }),
              AllOf(HasSubstr("chat_template.jinja"), HasSubstr("larger")));
  std::filesystem::remove(folder.path() / "chat_template.jinja");
  folder.write("tokenizer_config.json", std::string((16 << 20) + 1, ' '));
  EXPECT_THAT(error_of([&] { TokenizerConfig::load(folder.path()); }), HasSubstr("larger"));
}

}  // namespace
}  // namespace comet
