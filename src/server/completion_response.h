// SPDX-License-Identifier: Apache-2.0
// Answers in OpenAI's JSON, whole or as server-sent events.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "frontend/generation.h"
#include "server/completion_request.h"
#include "server/reasoning.h"

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

  // Before a choice's first delta. Puts the prompt in front of it (echo).
  void begin_with(int index, const std::string& prompt);
  // The same for the prompt's log-probabilities: entries are of the second token on.
  void begin_with_logprobs(int index, int32_t first_token, const std::vector<LogprobEntry>& entries);
  // Tells reasoning from content; is_thinking: the prompt has opened <think> already.
  void split_reasoning(int index, bool is_thinking);
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
    std::string text, reasoning;  // of the whole answer; streaming: what it begins with
    Json logprobs = Json();
    std::string finish;
    int next_offset = 0;  // completions with log-probabilities: where the next token's text begins
    std::optional<ReasoningSplitter> splitter;
  };

  bool is_chat() const { return endpoint_ == Endpoint::chat; }
  Choice& choice(int index);
  Json logprobs_of(Choice& choice, const std::vector<LogprobEntry>& entries) const;
  // Of completions: four lists of one length; the first token's text begins at character `offset`, which moves on.
  Json logprob_lists(const std::vector<LogprobEntry>& entries, int& offset) const;
  static ReasoningSplitter::Texts texts_of(Choice& choice, const TextDelta& delta);
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
