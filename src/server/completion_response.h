// SPDX-License-Identifier: Apache-2.0
// Answers in OpenAI's JSON, whole or as server-sent events.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "frontend/generation.h"
#include "server/completion_request.h"

namespace comet::server {

struct Usage {
  int num_prompt = 0, num_output = 0, num_cached = 0;
};

Json to_json(const Usage& usage);

// "data: JSON\n\n"
std::string sse_event(const Json& json);
inline const std::string kSseDone = "data: [DONE]\n\n";

// One request's answer. Choices are numbered over all prompts: prompt * n + choice.
class CompletionResponse {
 public:
  // created: seconds since 1970.
  CompletionResponse(const CompletionRequest& request, const Tokenizer& tokenizer, std::string id, std::string model,
                     int64_t created);

  // Puts the prompt in front of a choice (echo).
  void begin_with(int index, const std::string& prompt);
  // Streaming: the events for what a choice begins with, and for a delta; "" where there is nothing to tell.
  std::string opening_event(int index);
  std::string event(int index, const TextDelta& delta, const Usage& usage);
  std::string usage_event(const Usage& usage) const;
  // Not streaming: collects deltas, then everything.
  void add(int index, const TextDelta& delta);
  Json whole(const Usage& usage) const;

  const std::string& id() const { return id_; }

 private:
  struct Choice {
    std::string text;  // of the whole answer; streaming: what is still to be told
    Json logprobs = Json();
    std::string finish;
    int num_characters = 0;  // told or collected; where the next token's text begins
  };

  bool is_chat() const { return endpoint_ == Endpoint::chat; }
  Choice& choice(int index);
  Json logprobs_of(Choice& choice, const std::vector<LogprobEntry>& entries) const;
  Json frame(const char* object_suffix) const;
  Json token_entry(int32_t id, float logprob) const;

  Endpoint endpoint_;
  bool wants_logprobs_, continuous_usage_;
  const Tokenizer* tokenizer_;
  std::string id_, model_;
  int64_t created_;
  std::vector<Choice> choices_;
};

}  // namespace comet::server
