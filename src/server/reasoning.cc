// SPDX-License-Identifier: Apache-2.0
#include "server/reasoning.h"

#include <algorithm>
#include <string_view>

namespace comet::server {
namespace {

constexpr std::string_view kOpen = "<think>", kClose = "</think>", kSpace = " \t\r\n";

// Bytes at the end of `text` that `tag` may begin with.
size_t begun_tag(std::string_view text, std::string_view tag) {
  size_t size = std::min(text.size(), tag.size() - 1);
  while (size > 0 && !text.ends_with(tag.substr(0, size))) --size;
  return size;
}

}  // namespace

ReasoningSplitter::Texts ReasoningSplitter::push(const std::string& text) {
  Texts out;
  held_ += text;
  if (state_ == State::start) {
    const size_t begin = held_.find_first_not_of(kSpace);
    const std::string_view word = std::string_view(held_).substr(std::min(begin, held_.size()));
    if (word.starts_with(kOpen)) {
      state_ = State::thinking;
      held_.erase(0, begin + kOpen.size());
    } else if (kOpen.starts_with(word)) {
      return out;
    } else {
      state_ = State::answering;
      is_trimming_ = false;  // the model's own beginning
    }
  }
  const auto trim = [this] {
    if (is_trimming_) held_.erase(0, std::min(held_.find_first_not_of(kSpace), held_.size()));
    is_trimming_ = is_trimming_ && held_.empty();
  };
  if (state_ == State::thinking) {
    trim();
    if (const size_t end = held_.find(kClose); end != std::string::npos) {
      out.reasoning = held_.substr(0, end);
      out.reasoning.erase(out.reasoning.find_last_not_of(kSpace) + 1);
      held_.erase(0, end + kClose.size());
      state_ = State::answering;
      is_trimming_ = true;
    } else {
      // White space is told when it is known not to be the last.
      size_t size = held_.size() - begun_tag(held_, kClose);
      size = held_.substr(0, size).find_last_not_of(kSpace) + 1;
      out.reasoning = held_.substr(0, size);
      held_.erase(0, size);
      return out;
    }
  }
  trim();
  out.content = std::move(held_);
  held_.clear();
  return out;
}

ReasoningSplitter::Texts ReasoningSplitter::flush() {
  Texts out;
  (state_ == State::thinking ? out.reasoning : out.content) = std::move(held_);
  held_.clear();
  return out;
}

}  // namespace comet::server
