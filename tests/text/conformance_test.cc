// SPDX-License-Identifier: Apache-2.0
// Third-party tokenizers and templates from the folder in COMET_CONFORMANCE_DIR; skipped, counted and printed without
// it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "text/chat_template.h"
#include "text/crate.h"
#include "text/fixtures.h"

namespace comet {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Conformance : public testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("COMET_CONFORMANCE_DIR");
    if (folder == nullptr || *folder == '\0') GTEST_SKIP() << "COMET_CONFORMANCE_DIR is not set";
    root_ = folder;
  }

  fs::path root_;
};

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end; (end = text.find(separator, begin)) != text.npos; begin = end + separator.size()) {
    parts.push_back(text.substr(begin, end - begin));
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::string read(const fs::path& path) { return read_text_file(path, size_t{64} << 20); }

// Pieces of the incremental detokenizer put together.
std::string stream(const Tokenizer& t, std::span<const int32_t> ids) {
  Detokenizer d(t, {}, /*skip_special=*/false);
  std::string text;
  for (int32_t id : ids) text += d.push(id);
  return text + d.flush();
}

TEST_F(Conformance, Qwen25Vectors) {
  const fs::path folder = root_ / "data/tokenizers/qwen2.5";
  const Tokenizer t = Tokenizer::load(folder);
  std::vector<std::string> texts = split(read(folder / "vectors.inp"), "\n__ggml_vocab_test__\n");
  std::vector<std::string> lines = split(read(folder / "vectors.out"), "\n");
  ASSERT_EQ(lines.back(), "");
  lines.pop_back();
  ASSERT_EQ(texts.back(), "");
  texts.pop_back();
  ASSERT_EQ(texts.size(), lines.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    std::vector<int32_t> expected;
    for (const std::string& number : split(lines[i], " ")) {
      if (!number.empty()) expected.push_back(std::stoi(number));
    }
    EXPECT_EQ(t.encode(texts[i]), expected) << texts[i];
    EXPECT_EQ(t.decode(expected, false), texts[i]);
    EXPECT_EQ(stream(t, expected), texts[i]);
  }
  printf("qwen2.5: %zu vectors\n", texts.size());
}

TEST_F(Conformance, Qwen25Multilingual) {
  const Tokenizer t = Tokenizer::load(root_ / "data/tokenizers/qwen2.5");
  const Json inputs = Json::parse(read(root_ / "data/tokenizers/multilingual/inputs.json"));
  const Json baseline = Json::parse(read(root_ / "data/tokenizers/multilingual/baselines/Qwen__Qwen2.5-0.5B.json"));
  size_t count = 0;
  for (const Json& input : inputs["inputs"]) {
    const auto text = input["text"].get<std::string>();
    const Json& expected = baseline["entries"].at(input["id"].get<std::string>());
    const auto ids = expected["input_ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(t.encode(text), ids) << input["id"];
    for (size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(t.token(ids[i]), expected["tokens"][i]) << input["id"];
    EXPECT_EQ(t.decode(ids, false), expected["decoded_with_special"]) << input["id"];
    EXPECT_EQ(stream(t, ids), expected["decoded_with_special"]) << input["id"];
    ++count;
  }
  EXPECT_GE(count, 30u);
  printf("qwen2.5: %zu multilingual texts\n", count);
}

TEST_F(Conformance, Stories260k) {
  const Tokenizer t = Tokenizer::load(root_ / "models/stories260k");
  EXPECT_EQ(t.bos_id(), 1);
  EXPECT_EQ(t.eos_id(), 2);
  EXPECT_EQ(t.decoder_rules().join, JoinRule::drop_leading);
  const Json golden = Json::parse(read(root_ / "models/stories260k/golden.json"));
  for (const char* name : {"greedy", "fresh"}) {
    const auto ids = golden[std::string(name) + "_ids"].get<std::vector<int32_t>>();
    const auto text = golden[std::string(name) + "_text"].get<std::string>();
    EXPECT_EQ(t.decode(ids), text);
    Detokenizer d(t);
    std::string streamed;
    for (int32_t id : ids) streamed += d.push(id);
    EXPECT_EQ(streamed + d.flush(), text);
    // As generated after any part of it: the prompt's text and what streams after it.
    for (size_t cut = 0; cut <= ids.size(); ++cut) {
      const auto prompt = std::span(ids).first(cut), rest = std::span(ids).subspan(cut);
      Detokenizer after(t, prompt);
      std::string tail;
      for (int32_t id : rest) tail += after.push(id);
      ASSERT_EQ(t.decode(prompt) + tail + after.flush(), text) << cut;
    }
  }
  EXPECT_EQ(t.encode(golden["fresh_text"].get<std::string>()), golden["fresh_ids"].get<std::vector<int32_t>>());
}

TEST_F(Conformance, ChatTemplates) {
  const Json chat = Json::parse(R"([{"role": "user", "content": "What is the height of K2?"},
    {"role": "assistant", "content": "About 8,611 metres."}, {"role": "user", "content": "And <b>Nanga Parbat</b>?"}])");
  TokenizerConfig config;
  config.special_tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator(root_ / "data/chat-templates/templates/templates")) {
    if (entry.path().extension() != ".jinja") continue;
    const ChatTemplate t(config, entry.path());
    // What two of the templates ask for besides messages.
    const std::string text =
        t.render(chat, true, {{"functions", "[]"}, {"datetime", "2024-07-26"}, {"date_string", "26 Jul 2024"}});
    for (const Json& message : chat)
      EXPECT_THAT(text, HasSubstr(message["content"].get<std::string>())) << entry.path();
    ++count;
  }
  EXPECT_GE(count, 17u);
  printf("chat templates: %zu\n", count);
}

}  // namespace
}  // namespace comet
