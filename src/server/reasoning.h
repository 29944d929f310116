// SPDX-License-Identifier: Apache-2.0
// Tells what a model thinks from what it answers: "<think>...</think>answer", as text comes in pieces.
#pragma once

#include <string>

namespace comet::server {

class ReasoningSplitter {
 public:
  struct Texts {
    std::string reasoning, content;
  };

  // is_thinking: the prompt has opened <think> already.
  explicit ReasoningSplitter(bool is_thinking = false) : state_(is_thinking ? State::thinking : State::start) {}

  // What can be told by now; the beginning of a tag waits for more. White space next to a tag is left out.
  Texts push(const std::string& text);
  // The rest, at the end.
  Texts flush();

 private:
  enum class State { start, thinking, answering };

  State state_;
  std::string held_;
  bool is_trimming_ = true;
};

}  // namespace comet::server
