// SPDX-License-Identifier: Apache-2.0
// What somebody puts into a model folder or a request to break the program: each must be an error that says what it
// was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/chat_template.h"
#include "text/fixtures.h"

namespace comet {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;

std::string error_in(const std::string& source, const Json& messages = Json::array()) {
  return error_of([&] {
    TokenizerConfig config;
    config.chat_templates["default"] = {"hostile", source};
    ChatTemplate(config).render(messages, true);
  });
}

std::string repeat(const std::string& text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

TEST(HostileTemplate, EndlessLoops) {
  const std::string loop = "{% for i in range(100000) %}";
  EXPECT_THAT(error_in(repeat(loop, 5) + repeat("{% endfor %}", 5)), HasSubstr("hostile: line 1: takes more than "));
  EXPECT_THAT(error_in("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), HasSubstr("recursion limit"));
  EXPECT_THAT(error_in("{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}"), HasSubstr("recursion limit"));
  EXPECT_THAT(error_in("{{ range(1000000000) | list }}"), HasSubstr("line 1: "));
}

TEST(HostileTemplate, HugeOutput) {
  EXPECT_THAT(error_in("{% set x = 'a' * 100000 %}{% for i in range(1000) %}{{ x }}{% endfor %}"),
              HasSubstr("the output is too long"));
  EXPECT_THAT(error_in("{{ 'a' * 100000000000 }}"), HasSubstr("too large"));
}

TEST(HostileTemplate, MemoryThatDoubles) {
  EXPECT_THAT(error_in("{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ "
                       "ns.x %}{% endfor %}"),
              HasSubstr("hostile: takes more than "));
  EXPECT_THAT(error_in("{% set x = 'aaaaaaaaaaaaaaaa' %}" + repeat("{% set x %}{{ x }}{{ x }}{% endset %}", 60)),
              HasSubstr("takes more than "));
}

TEST(HostileTemplate, DeepNesting) {
  for (const auto& [open, close] : {std::pair{"[", "]"}, {"(", ")"}, {"{'a':", "}"}}) {
    EXPECT_THAT(error_in("{{ " + repeat(open, 100000) + "1" + repeat(close, 100000) + " }}"),
                HasSubstr("hostile: line 1: "))
        << open;
  }
  for (const std::string prefix : {"-", "not "}) {
    EXPECT_EQ(error_in("{{ " + repeat(prefix, ChatTemplate::kMaxTemplateBytes / prefix.size() - 10) + "1 }}"), "")
        << prefix;
  }
  EXPECT_THAT(error_in(repeat("{% if true %}", 20000)), HasSubstr("hostile: line 1: "));
  EXPECT_THAT(error_in("{{ 1" + repeat(".a", 100000) + " }}"), HasSubstr("line 1: "));
  // Values nested as deep as the steps allow: dropping, comparing and printing them recurses.
  const std::string nest = "{% set ns = namespace(x=[]) %}{% for i in range(12500) %}{% set ns.x = " + repeat("[", 30) +
                           "ns.x" + repeat("]", 30) + " %}{% endfor %}";
  EXPECT_EQ(error_in(nest), "");
  EXPECT_EQ(error_in(nest + "{{ ns.x == [ns.x] }}{{ ns.x < [ns.x] }}{{ ('' ~ ns.x) | length }}"), "");
  EXPECT_THAT(error_in(nest + "{{ ns.x }}"), HasSubstr("nested deeper than 200 levels"));
  EXPECT_THAT(error_in(nest + "{{ ns.x | tojson }}"), HasSubstr("nested deeper than 200 levels"));
}

TEST(HostileTemplate, Sources) {
  EXPECT_THAT(error_in(std::string(ChatTemplate::kMaxTemplateBytes + 1, 'a')), HasSubstr("longer than"));
  EXPECT_THAT(error_in("{{"), HasSubstr("line 1: "));
  EXPECT_THAT(error_in("{%"), HasSubstr("line 1: "));
  EXPECT_THAT(error_in("\xFF{{ '\xFF' }}{% generation"), HasSubstr("line 1: "));
  EXPECT_EQ(error_in("\xFF\xFE"), "");
  // A panic inside the template engine.
  EXPECT_THAT(error_in("{{ messages[::-1] }}"), AnyOf(HasSubstr("internal error"), ""));
}

TEST(HostileTemplate, Messages) {
  Json deep = Json::array();
  for (int i = 0; i < 200000; ++i) {
    Json outer = Json::array();
    outer.push_back(std::move(deep));
    deep = std::move(outer);
  }
  EXPECT_THAT(error_in("x", deep), HasSubstr("nested deeper than 100 levels"));
  const std::string large(ChatTemplate::kMaxContextBytes, 'a');
  EXPECT_THAT(error_in("x", {{{"role", "user"}, {"content", large}}}), HasSubstr("larger than"));
}

std::string load_error(const std::string& text) {
  return error_of([&] { Tokenizer::from_json(text, {}, "folder/tokenizer.json"); });
}

TEST(HostileTokenizer, Malformed) {
  const std::string good = byte_level_json().dump();
  for (size_t size = 0; size < good.size(); size += 1 + good.size() / 97) {
    ASSERT_THAT(load_error(good.substr(0, size)), HasSubstr("folder/tokenizer.json: not a tokenizer: ")) << size;
  }
  for (const std::string& text : {std::string(10 << 20, '['), repeat("{\"a\":", 2 << 20), std::string("null"),
                                  std::string("[]"), std::string("\xFF\xFE\0", 3), std::string(1000, '\0')}) {
    EXPECT_THAT(load_error(text), HasSubstr("not a tokenizer"));
  }
}

TEST(HostileTokenizer, WrongTypes) {
  const Json good = byte_level_json();
  for (const auto& [key, part] : good.items()) {
    for (const char* wrong : {"3", "\"x\"", "[1]", "{\"type\":\"Nope\"}", "{}", "true"}) {
      Json json = good;
      json[key] = Json::parse(wrong);
      load_error(json.dump());  // an error or not (an unknown version is none), never anything else
    }
  }
  for (const char* wrong : {"-1", "4294967295", "99999999999999999999", "1.5", "\"1\"", "null"}) {
    Json json = good;
    json["model"]["vocab"]["a"] = Json::parse(wrong);
    EXPECT_THAT(load_error(json.dump()), HasSubstr("tokenizer.json: ")) << wrong;
  }
  Json json = good;
  json["model"]["merges"] = {"a z_not_there"};
  EXPECT_THAT(load_error(json.dump()), HasSubstr("not a tokenizer"));
}

TEST(HostileTokenizer, AnyByteChanged) {
  std::string text = byte_fallback_json().dump();
  uint64_t state = 5;
  for (int i = 0; i < 400; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    char& c = text[(state >> 33) % text.size()];
    const char old = std::exchange(c, static_cast<char>(state >> 20));
    try {
      const Tokenizer t = Tokenizer::from_json(text);
      for (int32_t id : t.encode("ab é\n")) t.token_bytes(id);
    } catch (const InvalidInput&) {
    }
    c = old;
  }
  EXPECT_EQ(load_error(text), "");
}

// A normalizer that doubles the text sixty times.
TEST(HostileTokenizer, ABombInTheNormalizer) {
  Json json = byte_level_json();
  const Json replace = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  json["normalizer"] = {{"type", "Sequence"}, {"normalizers", std::vector<Json>(60, replace)}};
  const Tokenizer t = make_tokenizer(json);
  EXPECT_THAT(error_of([&] { t.encode("a"); }), HasSubstr("takes more than "));
  EXPECT_EQ(t.encode("b").size(), 1u);
}

TEST(HostileTokenizer, ABombInTheDecoder) {
  Json json = byte_level_json();
  const Json replace = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  std::vector<Json> decoders(60, replace);
  json["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
  EXPECT_THAT(error_of([&] { make_tokenizer(json).token_bytes('a'); }), HasSubstr("takes more than "));
  decoders.resize(16);  // few enough to be followed without the crate
  decoders[0]["content"] = "aaaa";
  json["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
  EXPECT_THAT(error_of([&] { make_tokenizer(json).token_bytes('a'); }), HasSubstr("longer than 65536 bytes"));
}

}  // namespace
}  // namespace comet
