// SPDX-License-Identifier: Apache-2.0
// Request bodies: every field read, every range kept, and refusals that name the field.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <sstream>

#include "refusal.h"
#include "server/completion_request.h"

namespace comet::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Json body_of(Endpoint endpoint, const std::string& fields) {
  Json body = Json::parse("{" + fields + "}");
  if (endpoint == Endpoint::completions && !body.contains("prompt")) body["prompt"] = "x";
  if (endpoint == Endpoint::chat && !body.contains("messages"))
    body["messages"] = Json::parse(R"([{"role":"user","content":"x"}])");
  return body;
}

CompletionRequest parse(const std::string& fields, Endpoint endpoint = Endpoint::completions,
                        const SamplingDefaults& defaults = {}) {
  return parse_completion_request(endpoint, body_of(endpoint, fields), defaults);
}

Refusal refused(const std::string& fields, Endpoint endpoint = Endpoint::completions) {
  return refusal([&] { parse(fields, endpoint); });
}

TEST(Request, SamplingFields) {
  for (const Endpoint endpoint : {Endpoint::chat, Endpoint::completions}) {
    const CompletionRequest r = parse(
        R"("temperature":0.5,"top_p":0.25,"top_k":7,"min_p":0.125,"repetition_penalty":1.5,"presence_penalty":-1,
           "frequency_penalty":2,"logit_bias":{"5":-100,"6":0.5},"seed":-1,"n":3,"max_tokens":9,"min_tokens":2.0,
           "stop_token_ids":[4,5],"ignore_eos":true,"stream":true,"priority":-5,"cache_salt":"s","model":"m",
           "stream_options":{"include_usage":true,"continuous_usage_stats":true},"user":"u","metadata":{"a":1})",
        endpoint);
    EXPECT_EQ(r.params.temperature, 0.5);
    EXPECT_EQ(r.params.top_p, 0.25);
    EXPECT_EQ(r.params.top_k, 7);
    EXPECT_EQ(r.params.min_p, 0.125);
    EXPECT_EQ(r.params.repetition_penalty, 1.5);
    EXPECT_EQ(r.params.presence_penalty, -1);
    EXPECT_EQ(r.params.frequency_penalty, 2);
    EXPECT_EQ(r.params.logit_bias, (std::map<int32_t, float>{{5, -100.0f}, {6, 0.5f}}));
    EXPECT_EQ(r.params.seed, ~uint64_t{0});
    EXPECT_EQ(r.params.n, 3);
    EXPECT_EQ(r.params.max_tokens, 9);
    EXPECT_EQ(r.params.min_tokens, 2);
    EXPECT_THAT(r.params.stop_token_ids, ElementsAre(4, 5));
    EXPECT_TRUE(r.params.ignore_eos && r.stream && r.include_usage && r.continuous_usage);
    EXPECT_EQ(r.priority, -5);
    EXPECT_EQ(r.cache_salt, "s");
    EXPECT_EQ(r.model, "m");
    EXPECT_FALSE(r.wants_logprobs() || r.echo);
  }
}

TEST(Request, NullMeansNotGiven) {
  for (const Endpoint endpoint : {Endpoint::chat, Endpoint::completions}) {
    const Json schema = completion_request_schema(endpoint);
    for (const auto& [name, unused] : schema["properties"].items()) {
      const bool is_required = schema["required"][0] == name;
      EXPECT_EQ(refused(fmt::format("\"{}\":null", name), endpoint).status, is_required ? 400 : 0) << name;
    }
  }
  EXPECT_EQ(refused("\"tools\":null").status, 0);
}

TEST(Request, WrongTypesAreRefusedByName) {
  for (const Endpoint endpoint : {Endpoint::chat, Endpoint::completions}) {
    const Json properties = completion_request_schema(endpoint)["properties"];
    EXPECT_GT(properties.size(), 25u);
    for (const auto& [name, unused] : properties.items()) {
      const bool takes_objects = name == "logit_bias" || name == "metadata" || name == "chat_template_kwargs";
      const Refusal r = refused(fmt::format("\"{}\":{}", name, takes_objects ? "[1]" : R"({"a":[]})"), endpoint);
      EXPECT_EQ(r.status, 400) << name;
      EXPECT_THAT(r.param, testing::StartsWith(name));
    }
  }
}

TEST(Request, Ranges) {
  const struct {
    const char *name, *good, *bad;  // comma-separated values
  } ranges[] = {
      {"temperature", "0,100,0.3", "-0.1,-5,101,1e300"},
      {"top_p", "1,0.001", "0,1.001,-1"},
      {"top_k", "-1,0,5", "-2,2147483648,18446744073709551615,1.5"},
      {"min_p", "0,1", "-0.1,1.1"},
      {"repetition_penalty", "0.1,100", "0,-1,101"},
      {"presence_penalty", "-2,2", "-2.1,2.1"},
      {"frequency_penalty", "-2,2", "-2.1,2.1"},
      {"seed", "0,-9223372036854775808,9223372036854775807,3.0", "18446744073709551615,9223372036854775808.0,0.5"},
      {"n", "1,128", "0,129,-1"},
      {"max_tokens", "1,2147483647", "0,-1,2147483648"},
      {"min_tokens", "0,7", "-1"},
      {"priority", "-1000,1000", "-1001,1001"},
      {"logprobs", "0,20", "-1,21"},
  };
  for (const auto& range : ranges) {
    for (const bool is_good : {true, false}) {
      std::istringstream values(is_good ? range.good : range.bad);
      for (std::string value; std::getline(values, value, ',');) {
        const Refusal r = refused(fmt::format("\"{}\":{}", range.name, value));
        EXPECT_EQ(r.status, is_good ? 0 : 400) << range.name << " " << value << ": " << r;
        EXPECT_EQ(r.param, is_good ? "" : range.name);
      }
    }
  }
}

TEST(Request, PromptsInFourForms) {
  using Prompt = std::variant<std::string, std::vector<int32_t>>;
  EXPECT_THAT(parse(R"("prompt":"abc")").prompts, ElementsAre(Prompt("abc")));
  EXPECT_THAT(parse(R"("prompt":["a","b"])").prompts, ElementsAre(Prompt("a"), Prompt("b")));
  EXPECT_THAT(parse(R"("prompt":[1,2])").prompts, ElementsAre(Prompt(std::vector<int32_t>{1, 2})));
  EXPECT_THAT(parse(R"("prompt":[[1],[2,3]])").prompts,
              ElementsAre(Prompt(std::vector<int32_t>{1}), Prompt(std::vector<int32_t>{2, 3})));
  for (const char* bad : {"[]", "[[]]", "[\"a\",1]", "[1,[2]]", "[1.5]", "[2147483648]", "5", "{}"})
    EXPECT_THAT(refused("\"prompt\":" + std::string(bad)).param, testing::StartsWith("prompt")) << bad;
}

TEST(Request, Messages) {
  const CompletionRequest r = parse(
      R"("messages":[{"role":"developer","content":"be brief"},{"role":"user","content":
         [{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"assistant"},{"role":"tool","content":"t",
         "tool_call_id":"1"}],"chat_template_kwargs":{"enable_thinking":false},"add_generation_prompt":false)",
      Endpoint::chat);
  EXPECT_EQ(r.messages[0]["role"], "system");
  EXPECT_EQ(r.messages[1]["content"], "ab");
  EXPECT_EQ(r.messages[2]["content"], "");
  EXPECT_EQ(r.messages[3]["tool_call_id"], "1");
  EXPECT_EQ(r.template_variables["enable_thinking"], false);
  EXPECT_FALSE(r.add_generation_prompt);
  const auto param = [](const char* messages) {
    return refused("\"messages\":" + std::string(messages), Endpoint::chat).param;
  };
  EXPECT_EQ(param("[]"), "messages");
  EXPECT_EQ(param(R"([{"content":"x"}])"), "messages[0].role");
  EXPECT_EQ(param(R"([{"role":"user","content":"x"},{"role":"king","content":"x"}])"), "messages[1].role");
  EXPECT_EQ(param(R"([{"role":"user","content":[{"type":"image_url","image_url":{}}]}])"),
            "messages[0].content[0].text");
  EXPECT_EQ(param(R"([{"role":"user","content":[{"type":"audio","text":"x"}]}])"), "messages[0].content[0].type");
  EXPECT_EQ(param(R"([{"role":"user","content":5}])"), "messages[0].content");
}

TEST(Request, Stop) {
  EXPECT_THAT(parse(R"("stop":"a")").stop, ElementsAre("a"));
  EXPECT_THAT(parse(R"("stop":["a","b"])").stop, ElementsAre("a", "b"));
  EXPECT_THAT(parse(R"("stop":[])").stop, ElementsAre());
  EXPECT_EQ(refused(R"("stop":"")").param, "stop");
  EXPECT_EQ(refused(R"("stop":["a",""])").param, "stop[1]");
}

TEST(Request, LogprobsOfChatAndCompletions) {
  EXPECT_EQ(parse(R"("logprobs":4)").params.logprobs, 4);
  EXPECT_EQ(parse(R"("logprobs":0)").params.logprobs, 0);
  EXPECT_EQ(parse("", Endpoint::chat).params.logprobs, std::nullopt);
  EXPECT_EQ(parse(R"("logprobs":false)", Endpoint::chat).params.logprobs, std::nullopt);
  EXPECT_EQ(parse(R"("logprobs":true)", Endpoint::chat).params.logprobs, 0);
  EXPECT_EQ(parse(R"("top_logprobs":4,"logprobs":true)", Endpoint::chat).params.logprobs, 4);
  EXPECT_EQ(refused(R"("logprobs":true)").param, "logprobs");
  EXPECT_EQ(refused(R"("logprobs":4)", Endpoint::chat).param, "logprobs");
  EXPECT_EQ(refused(R"("top_logprobs":4)", Endpoint::chat).param, "top_logprobs");
  EXPECT_EQ(refused(R"("top_logprobs":4,"logprobs":false)", Endpoint::chat).param, "top_logprobs");
  EXPECT_EQ(refused(R"("top_logprobs":21,"logprobs":true)", Endpoint::chat).param, "top_logprobs");
}

TEST(Request, FieldsThatNeedOthers) {
  EXPECT_EQ(refused(R"("stream_options":{"include_usage":true})").param, "stream_options");
  EXPECT_EQ(refused(R"("stream":true,"stream_options":{"usage":true})").param, "stream_options.usage");
  EXPECT_EQ(refused(R"("min_tokens":5,"max_tokens":4)").param, "min_tokens");
  EXPECT_EQ(refused(R"("best_of":3,"n":2)").param, "best_of");
  EXPECT_EQ(refused(R"("best_of":2,"n":2)").status, 0);
  EXPECT_EQ(refused(R"("suffix":"x")").param, "suffix");
  EXPECT_EQ(refused(R"("echo":true,"logprobs":0,"n":2)").status, 0);
  EXPECT_EQ(refused(R"("max_tokens":0)").param, "max_tokens");
  EXPECT_EQ(refused(R"("max_tokens":0)", Endpoint::chat).param, "max_tokens");
  EXPECT_EQ(refused(R"("max_tokens":0,"echo":true,"min_tokens":1)").param, "min_tokens");
  EXPECT_EQ(parse(R"("max_completion_tokens":3)", Endpoint::chat).params.max_tokens, 3);
}

TEST(Request, NoTokensOfTheAnswer) {
  const CompletionRequest none = parse(R"("max_tokens":0,"echo":true)"), some = parse(R"("max_tokens":1,"echo":true)");
  EXPECT_TRUE(none.is_prompt_only);
  EXPECT_FALSE(some.is_prompt_only);
  EXPECT_EQ(none.params.max_tokens, 1);  // the engine's least
}

TEST(Request, WhatIsNotBuiltIsRefusedByName) {
  for (const char* name : {"tools", "tool_choice", "response_format", "functions", "guided_json", "audio"})
    for (const Endpoint endpoint : {Endpoint::chat, Endpoint::completions}) {
      const Refusal r = refused(fmt::format("\"{}\":{{}}", name), endpoint);
      EXPECT_EQ(r.code, "unsupported_parameter");
      EXPECT_EQ(r.param, name);
      EXPECT_THAT(r.message, HasSubstr(name));
    }
}

TEST(Request, UnknownFieldsNameTheNearestOne) {
  const Refusal r = refused(R"("temprature":1)");
  EXPECT_EQ(r.code, "unknown_parameter");
  EXPECT_EQ(r.param, "temprature");
  EXPECT_THAT(r.message, HasSubstr("\"temperature\""));
  EXPECT_EQ(refused(R"("messages":[])").param, "messages");  // of the other endpoint
}

TEST(Request, BodiesThatAreNoObjects) {
  for (const char* text : {"[]", "null", "5", "\"x\""})
    EXPECT_EQ(refusal([&] { parse_completion_request(Endpoint::chat, Json::parse(text), {}); }).status, 400) << text;
}

TEST(Request, DefaultsOfTheModel) {
  const SamplingDefaults d{
      .temperature = 0.6, .top_p = 0.9, .min_p = 0.1, .repetition_penalty = 1.1, .top_k = 20, .max_tokens = 50};
  const CompletionRequest r = parse(R"("top_p":0.5,"top_k":null)", Endpoint::chat, d);
  EXPECT_EQ(r.params.temperature, 0.6);
  EXPECT_EQ(r.params.top_p, 0.5);
  EXPECT_EQ(r.params.min_p, 0.1);
  EXPECT_EQ(r.params.repetition_penalty, 1.1);
  EXPECT_EQ(r.params.top_k, 20);
  EXPECT_FALSE(r.params.max_tokens.has_value());
  EXPECT_EQ(r.default_max_tokens, 50);
}

}  // namespace
}  // namespace comet::server
