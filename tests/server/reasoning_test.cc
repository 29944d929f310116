// SPDX-License-Identifier: Apache-2.0
// However a text is cut into pieces, thinking and answer come out the same.
#include "server/reasoning.h"

#include <gtest/gtest.h>

namespace comet::server {
namespace {

// In pieces of `size` bytes.
ReasoningSplitter::Texts split(const std::string& text, size_t size, bool is_thinking = false) {
  ReasoningSplitter splitter(is_thinking);
  ReasoningSplitter::Texts all;
  const auto take = [&](const ReasoningSplitter::Texts& t) {
    all.reasoning += t.reasoning;
    all.content += t.content;
  };
  for (size_t i = 0; i < text.size(); i += size) take(splitter.push(text.substr(i, size)));
  take(splitter.flush());
  return all;
}

void expect(const std::string& text, const std::string& reasoning, const std::string& content,
            bool is_thinking = false) {
  for (size_t size = 1; size <= text.size(); ++size) {
    const ReasoningSplitter::Texts t = split(text, size, is_thinking);
    EXPECT_EQ(t.reasoning, reasoning) << text << " by " << size;
    EXPECT_EQ(t.content, content) << text << " by " << size;
  }
}

TEST(Reasoning, Splits) {
  expect("<think>why</think>because", "why", "because");
  expect("\n<think>\n a b \n</think>\n\n c d ", "a b", "c d ");
  expect("<think>a < b </thin </think>x</think>", "a < b </thin", "x</think>");
  expect("<think></think>x", "", "x");
}

TEST(Reasoning, WithoutTagsAllIsContent) {
  expect(" hello <think> there", "", " hello <think> there");
  expect("<thing", "", "<thing");
  expect("<thi", "", "<thi");
  expect("  ", "", "  ");
}

TEST(Reasoning, AnUnfinishedThoughtIsReasoning) {
  expect("<think>on and", "on and", "");
  expect("<think>on </thi", "on </thi", "");
}

TEST(Reasoning, ThePromptMayHaveOpenedIt) {
  expect("\nwhy</think>\nbecause", "why", "because", true);
  expect("never closed", "never closed", "", true);
}

}  // namespace
}  // namespace comet::server
