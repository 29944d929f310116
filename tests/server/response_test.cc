// SPDX-License-Identifier: Apache-2.0
// Answers in OpenAI's JSON: chunks, log-probabilities, usage, bytes that are half a character.
#include "server/completion_response.h"

#include <gmock/gmock.h>

namespace comet::server {
namespace {

const Tokenizer& tokenizer() {
  static const Tokenizer t = Tokenizer::load(std::string(COMET_SOURCE_DIR) + "/models/gutenberg-15m");
  return t;
}

CompletionResponse response(const CompletionRequest& request) {
  return CompletionResponse(request, tokenizer(), "id-1", "m", 7);
}

CompletionRequest request_of(Endpoint endpoint, bool logprobs = false) {
  CompletionRequest r;
  r.endpoint = endpoint;
  if (logprobs) r.params.logprobs = 1;
  return r;
}

TextDelta delta(const std::string& text, FinishReason finish = FinishReason::none) {
  TextDelta d;
  d.text = text;
  d.finish = finish;
  d.num_tokens = 1;
  return d;
}

LogprobEntry entry(const std::string& text, float logprob) {
  const int32_t id = tokenizer().encode(text, false).at(0);
  return {.token = id, .logprob = logprob, .text = tokenizer().token_bytes(id), .top = {{id, logprob}}};
}

Json parse_event(const std::string& event) {
  EXPECT_TRUE(event.starts_with("data: ") && event.ends_with("\n\n")) << event;
  EXPECT_EQ(event.find('\n'), event.size() - 2);
  return Json::parse(event.substr(6));
}

TEST(Response, WholeChat) {
  CompletionResponse r = response(request_of(Endpoint::chat));
  r.add(0, delta("Hel"));
  r.add(0, delta("lo", FinishReason::stop));
  EXPECT_EQ(r.whole({.num_prompt = 4, .num_output = 2, .num_cached = 3}), Json::parse(R"({
    "id":"id-1","object":"chat.completion","created":7,"model":"m",
    "choices":[{"index":0,"message":{"role":"assistant","content":"Hello","refusal":null},"logprobs":null,
                "finish_reason":"stop"}],
    "usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6,"prompt_tokens_details":{"cached_tokens":3}}})"));
}

TEST(Response, WholeCompletionOfTwoChoices) {
  CompletionResponse r = response(request_of(Endpoint::completions));
  r.begin_with(0, "p ");
  r.begin_with(1, "q ");
  r.add(1, delta("b", FinishReason::length));
  r.add(0, delta("a", FinishReason::stop));
  const Json whole = r.whole({});
  EXPECT_EQ(whole["object"], "text_completion");
  EXPECT_EQ(whole["choices"][0]["text"], "p a");
  EXPECT_EQ(whole["choices"][1]["text"], "q b");
  EXPECT_EQ(whole["choices"][1]["finish_reason"], "length");
}

TEST(Response, ChatEvents) {
  CompletionResponse r = response(request_of(Endpoint::chat));
  EXPECT_EQ(parse_event(r.opening_event(0)), Json::parse(R"({
    "id":"id-1","object":"chat.completion.chunk","created":7,"model":"m",
    "choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]})"));
  EXPECT_EQ(parse_event(r.event(0, delta("a"), {}))["choices"],
            Json::parse(R"([{"index":0,"delta":{"content":"a"},"logprobs":null,"finish_reason":null}])"));
  EXPECT_EQ(parse_event(r.event(0, delta("", FinishReason::length), {}))["choices"],
            Json::parse(R"([{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}])"));
  const Json usage = parse_event(r.usage_event({.num_prompt = 1, .num_output = 2}));
  EXPECT_EQ(usage["choices"], Json::array());
  EXPECT_EQ(usage["usage"]["total_tokens"], 3);
}

TEST(Response, CompletionEvents) {
  CompletionRequest request = request_of(Endpoint::completions);
  request.continuous_usage = true;
  CompletionResponse r = response(request);
  r.begin_with(0, "");
  EXPECT_EQ(r.opening_event(0), "");  // nothing to echo
  r.begin_with(1, "prompt");
  EXPECT_EQ(parse_event(r.opening_event(1))["choices"][0]["text"], "prompt");
  const Json event = parse_event(r.event(1, delta("\n\"x"), {.num_prompt = 1, .num_output = 2}));
  EXPECT_EQ(event["object"], "text_completion");
  EXPECT_EQ(event["choices"][0]["text"], "\n\"x");
  EXPECT_EQ(event["usage"]["completion_tokens"], 2);
}

TEST(Response, LogprobsOfChat) {
  CompletionResponse r = response(request_of(Endpoint::chat, true));
  TextDelta d = delta("the");
  d.logprobs = {entry("the", -0.5f)};
  const Json content = parse_event(r.event(0, d, {}))["choices"][0]["logprobs"]["content"];
  EXPECT_EQ(content.size(), 1u);
  EXPECT_EQ(content[0]["token"], "the");
  EXPECT_EQ(content[0]["logprob"], -0.5);
  EXPECT_EQ(content[0]["bytes"], Json::parse("[116,104,101]"));
  EXPECT_EQ(content[0]["top_logprobs"][0]["token"], "the");
}

TEST(Response, LogprobsOfCompletionsCountCharacters) {
  CompletionResponse r = response(request_of(Endpoint::completions, true));
  TextDelta first = delta("the"), second = delta(" the", FinishReason::stop);
  first.logprobs = {entry("the", -1)};
  second.logprobs = {entry(" the", -2)};
  r.begin_with(0, "ä");
  r.add(0, first);
  r.add(0, second);
  const Json lists = r.whole({})["choices"][0]["logprobs"];
  EXPECT_EQ(lists["tokens"], Json::parse(R"(["the"," the"])"));
  EXPECT_EQ(lists["token_logprobs"], Json::parse("[-1.0,-2.0]"));
  EXPECT_EQ(lists["text_offset"], Json::parse("[1,4]"));
  EXPECT_EQ(lists["top_logprobs"][1], Json::parse(R"({" the":-2.0})"));
}

TEST(Response, OffsetsOfTokensWhoseTextIsHeldBack) {
  CompletionResponse r = response(request_of(Endpoint::completions, true));
  TextDelta first = delta(""), second = delta("the the", FinishReason::stop);
  first.logprobs = {entry("the", -1)};  // perhaps the beginning of a stop string
  second.logprobs = {entry(" the", -2)};
  r.add(0, first);
  r.add(0, second);
  EXPECT_EQ(r.whole({})["choices"][0]["logprobs"]["text_offset"], Json::parse("[0,3]"));
}

TEST(Response, LikelyTokensWithTheSameTextAreOneKey) {
  std::vector<int32_t> halves;  // bytes that are no character alone
  for (int32_t id = 0; id < tokenizer().num_ids() && halves.size() < 3; ++id)
    if (tokenizer().token_bytes(id) >= "\x80" && tokenizer().token_bytes(id).size() == 1) halves.push_back(id);
  ASSERT_EQ(halves.size(), 3u);
  TextDelta d = delta("", FinishReason::length);
  d.logprobs = {{.token = halves[2],
                 .logprob = -3,
                 .text = tokenizer().token_bytes(halves[2]),
                 .top = {{halves[0], -1}, {halves[1], -2}}}};
  CompletionResponse r = response(request_of(Endpoint::completions, true));
  const Json logprobs = parse_event(r.event(0, d, {}))["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"], Json::parse("[\"\\ufffd\"]"));
  EXPECT_EQ(logprobs["top_logprobs"][0].dump(), "{\"\xef\xbf\xbd\":-3.0}");
  d.logprobs[0].token = tokenizer().encode("the", false).at(0);
  d.logprobs[0].text = "the";
  CompletionResponse other = response(request_of(Endpoint::completions, true));
  EXPECT_EQ(parse_event(other.event(0, d, {}))["choices"][0]["logprobs"]["top_logprobs"][0].dump(),
            "{\"\xef\xbf\xbd\":-1.0,\"the\":-3.0}");
}

TEST(Response, LogprobsOfThePrompt) {
  CompletionResponse r = response(request_of(Endpoint::completions, true));
  r.begin_with(0, "the the");
  r.begin_with_logprobs(0, tokenizer().encode("the", false).at(0), {entry(" the", -3)});
  const Json opening = parse_event(r.opening_event(0))["choices"][0];
  EXPECT_EQ(opening["text"], "the the");
  EXPECT_EQ(opening["logprobs"], Json::parse(R"({"tokens":["the"," the"],"token_logprobs":[null,-3.0],
    "top_logprobs":[null,{" the":-3.0}],"text_offset":[0,3]})"));
  TextDelta d = delta(" the", FinishReason::length);
  d.logprobs = {entry(" the", -1)};
  r.add(0, d);
  EXPECT_EQ(r.whole({})["choices"][0]["logprobs"]["token_logprobs"], Json::parse("[null,-3.0,-1.0]"));
  EXPECT_EQ(r.whole({})["choices"][0]["logprobs"]["text_offset"], Json::parse("[0,3,7]"));
}

TEST(Response, Reasoning) {
  CompletionResponse whole = response(request_of(Endpoint::chat)), streamed = response(request_of(Endpoint::chat));
  whole.split_reasoning(0, false);
  streamed.split_reasoning(0, false);
  std::string reasoning, content;
  for (const char* text : {"<th", "ink>", "\nwhy ", "not", "?\n</", "think>", "\n\n", "Yes", "."}) {
    whole.add(0, delta(text));
    const std::string event = streamed.event(0, delta(text), {});
    if (event.empty()) continue;
    const Json part = parse_event(event)["choices"][0]["delta"];
    reasoning += part.value("reasoning_content", "");
    content += part.value("content", "");
  }
  EXPECT_EQ(reasoning, "why not?");
  EXPECT_EQ(content, "Yes.");
  const Json message = whole.whole({})["choices"][0]["message"];
  EXPECT_EQ(message["reasoning_content"], "why not?");
  EXPECT_EQ(message["content"], "Yes.");
}

TEST(Response, HalfACharacterIsReplaced) {
  CompletionResponse r = response(request_of(Endpoint::completions));
  EXPECT_EQ(parse_event(r.event(0, delta("\xc3"), {}))["choices"][0]["text"], "\xef\xbf\xbd");
}

}  // namespace
}  // namespace comet::server
