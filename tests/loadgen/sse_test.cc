// SPDX-License-Identifier: Apache-2.0
// Events in any pieces; what an event tells.
#include "loadgen/sse.h"

#include <gmock/gmock.h>

#include <vector>

#include "base/check.h"

namespace comet::loadgen {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::string kStream =
    ": keep-alive\n\nevent: x\ndata: {\"a\": 1}\n\ndata:two\r\ndata:  lines\r\n\r\nid: 7\n\ndata: [DONE]\n\n";

std::vector<std::string> events_of(const std::vector<std::string>& pieces) {
  SseParser parser;
  std::vector<std::string> out;
  for (const std::string& piece : pieces) parser.push(piece, [&](std::string_view data) { out.emplace_back(data); });
  EXPECT_TRUE(parser.is_between_events());
  return out;
}

TEST(Sse, SplitAtEveryByte) {
  const std::vector<std::string> whole = events_of({kStream});
  EXPECT_THAT(whole, ElementsAre("{\"a\": 1}", "two\n lines", "[DONE]"));
  for (size_t i = 0; i <= kStream.size(); ++i)
    for (size_t j = i; j <= kStream.size(); ++j)
      ASSERT_EQ(events_of({kStream.substr(0, i), kStream.substr(i, j - i), kStream.substr(j)}), whole) << i << " " << j;
  std::vector<std::string> bytes;
  for (const char c : kStream) bytes.emplace_back(1, c);
  EXPECT_EQ(events_of(bytes), whole);
}

TEST(Sse, AnEventIsToldWithItsEmptyLineOnly) {
  SseParser parser;
  int count = 0;
  parser.push("data: a\n", [&](std::string_view) { ++count; });
  EXPECT_EQ(count, 0);
  EXPECT_FALSE(parser.is_between_events());
  parser.push("\n", [&](std::string_view) { ++count; });
  EXPECT_EQ(count, 1);
}

TEST(Sse, AnEventWithoutEndIsRefused) {
  SseParser parser;
  const std::string piece(1 << 20, 'x');
  EXPECT_THROW(for (int i = 0; i < 32; ++i) parser.push(piece, [](std::string_view) {}), InvalidInput);
}

TEST(Chunk, TextOfBothEndpoints) {
  const auto has_text = [](const char* json) { return parse_chunk(json)->has_text; };
  EXPECT_TRUE(has_text(R"({"choices": [{"index": 0, "text": " a", "finish_reason": null}]})"));
  EXPECT_FALSE(has_text(R"({"choices": [{"index": 0, "text": "", "finish_reason": null}]})"));
  EXPECT_FALSE(has_text(R"({"choices": [{"delta": {"role": "assistant", "content": ""}}]})"));
  EXPECT_TRUE(has_text(R"({"choices": [{"delta": {"content": "a"}}]})"));
  EXPECT_TRUE(has_text(R"({"choices": [{"delta": {"reasoning_content": "a", "content": null}}]})"));
  EXPECT_FALSE(has_text(R"({"choices": [], "usage": null})"));
  EXPECT_FALSE(parse_chunk(R"({"choices": [{"text": "a", "finish_reason": null}]})")->is_finished);
  EXPECT_TRUE(parse_chunk(R"({"choices": [{"text": "", "finish_reason": "length"}]})")->is_finished);
}

TEST(Chunk, Usage) {
  const auto c = parse_chunk(R"({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4,
                                 "prompt_tokens_details": {"cached_tokens": 3}}})");
  EXPECT_TRUE(c->has_usage);
  EXPECT_EQ(c->prompt_tokens, 9);
  EXPECT_EQ(c->completion_tokens, 4);
  EXPECT_EQ(c->cached_tokens, 3);
  EXPECT_EQ(parse_chunk(R"({"usage": {"prompt_tokens": 9, "prompt_tokens_details": null}})")->cached_tokens, 0);
  EXPECT_FALSE(parse_chunk(R"({"choices": [], "usage": null})")->has_usage);
}

TEST(Chunk, ErrorsOfSeveralServers) {
  const auto c = parse_chunk(R"({"error": {"message": "no", "type": "t", "code": "engine_failed"}})");
  EXPECT_EQ(c->error_kind, "engine_failed");
  EXPECT_EQ(c->error_message, "no");
  EXPECT_EQ(parse_chunk(R"({"error": "broken"})")->error_kind, "error");
  EXPECT_EQ(parse_chunk(R"({"error": null})")->error_kind, "");
  EXPECT_FALSE(parse_chunk("[1]"));
  EXPECT_FALSE(parse_chunk("{\"a\""));
  EXPECT_EQ(parse_error(R"({"error": {"message": "m", "type": "t", "code": null}})").kind, "t");
  EXPECT_EQ(parse_error(R"({"error": {"message": "m", "code": 400}})").kind, "400");
  EXPECT_EQ(parse_error(R"({"detail": "Not Found"})").message, "Not Found");
  EXPECT_EQ(parse_error("<html>").message, "<html>");
}

}  // namespace
}  // namespace comet::loadgen
