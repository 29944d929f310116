// SPDX-License-Identifier: Apache-2.0
// What a client may ask of the sampler, and the ranges in which it may ask it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/check.h"

namespace comet {

struct SamplingParams {
  double temperature = 1.0;  // >= 0; below kGreedyTemperature: the most likely token
  int top_k = 0;             // keep the k most likely tokens; 0 or -1: all
  double top_p = 1.0;        // (0, 1]: keep the fewest tokens, most likely first, that have this much probability
  double min_p = 0.0;        // [0, 1]: keep tokens of at least this share of the best token's probability
  double repetition_penalty = 1.0;           // > 0: on tokens of prompt and output
  double presence_penalty = 0.0;             // [-2, 2]: on tokens of the output
  double frequency_penalty = 0.0;            // [-2, 2]: the same, once per occurrence
  std::map<int32_t, float> logit_bias = {};  // token -> [-100, 100], added to its logit
  std::optional<uint64_t> seed = {};         // without one, the request draws one when it is admitted
  int n = 1;                                 // independent choices; each becomes a sequence with its own choice index
  std::optional<int> max_tokens = {};        // >= 1; without it, until the context is full
  int min_tokens = 0;                        // end-of-text and stop tokens cannot be sampled before this many
  std::vector<int32_t> stop_token_ids = {};
  bool ignore_eos = false;           // go on after an end-of-text token (stop_token_ids still stop)
  std::optional<int> logprobs = {};  // 0..kMaxLogprobs: report the chosen token's log-probability and those of the best
};

constexpr double kGreedyTemperature = 1e-5;
constexpr int kMaxLogprobs = 20;
constexpr int kMaxChoices = 128;

// A sampling parameter out of its range. The message names field, value and range; `field` serves OpenAI-shaped errors.
class InvalidParameter : public InvalidInput {
 public:
  InvalidParameter(std::string name, const std::string& message) : InvalidInput(message), field(std::move(name)) {}
  std::string field;
};

// Throws InvalidParameter for the first field that is out of range. Token ids must lie in [0, vocab_size).
void validate(const SamplingParams& params, int vocab_size);

}  // namespace comet
