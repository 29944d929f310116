// SPDX-License-Identifier: Apache-2.0
// The bodies of /v1/chat/completions and /v1/completions: one table of fields is the parser and the documentation.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/sampling.h"
#include "server/error.h"

namespace comet::server {

enum class Endpoint { chat, completions };

struct CompletionRequest {
  Endpoint endpoint = Endpoint::chat;
  std::string model;  // as the client named it; empty: none
  // completions: each prompt is text or token ids; each gets params.n choices.
  std::vector<std::variant<std::string, std::vector<int32_t>>> prompts;
  // chat: contents are text.
  Json messages = Json::array();
  Json template_variables = Json::object();
  bool add_generation_prompt = true;

  SamplingParams params;
  int default_max_tokens = 0;  // 0: none
  std::vector<std::string> stop;
  bool stream = false, include_usage = false, continuous_usage = false;
  bool echo = false;
  bool is_prompt_only = false;  // max_tokens was 0; the engine makes one token, which is not told
  int priority = 0;
  std::string cache_salt;

  bool wants_logprobs() const { return params.logprobs.has_value(); }
};

// What fields that a client leaves out are set to: generation_config.json of the model.
struct SamplingDefaults {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int> top_k, max_tokens;
};

// Throws ApiError that names the first field that is wrong.
CompletionRequest parse_completion_request(Endpoint endpoint, const Json& body, const SamplingDefaults& defaults);

// The JSON Schema of the body.
Json completion_request_schema(Endpoint endpoint);

}  // namespace comet::server
