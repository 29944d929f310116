// SPDX-License-Identifier: Apache-2.0
// A served model for fuzzers: a byte-level tokenizer with some longer tokens, a chat template, one dummy layer and the
// engine that runs nothing.
#pragma once

#include <memory>

#include "fuzz/recording_engine.h"
#include "server/service.h"
#include "text/fixtures.h"

namespace comet::fuzz {

constexpr int kContext = 512;  // tokens

// Which one: with reasoning told apart; with a decoder that only the tokenizer itself knows (JoinRule::window).
enum class Kind { plain, reasoning, window };

class Served {
 public:
  explicit Served(Kind kind);

  server::Service& service() { return *service_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  // Ids below it are tokens; some above it belong to the model, too, and to no token.
  int num_tokens() const { return tokenizer_.num_ids(); }

 private:
  Tokenizer tokenizer_;
  ChatTemplate chat_template_;
  std::unique_ptr<Backend> backend_ = ref_backend();
  Model model_;
  Engine engine_;
  server::ServerOptions options_;
  std::unique_ptr<server::Service> service_;
};

// Made once in a process.
Served& served(Kind kind = Kind::plain);

}  // namespace comet::fuzz
