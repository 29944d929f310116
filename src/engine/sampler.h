// SPDX-License-Identifier: Apache-2.0
// One row of logits to one token: a pure function, with the same result on every machine.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/candidates.h"
#include "engine/logprobs.h"
#include "engine/sampling.h"

namespace comet {

struct SampleInput {
  std::span<const float> logits = {};      // [vocab], finite
  const SamplingParams* params = nullptr;  // validated
  std::span<const int32_t> prompt = {};    // token ids, all in [0, vocab)
  std::span<const int32_t> output = {};
  std::span<const int32_t> eos_token_ids = {};  // with params->stop_token_ids, what min_tokens holds back
  std::span<const uint32_t> allowed = {};       // bit id % 32 of word id / 32; empty: all tokens. [ceil(vocab / 32)]
  uint64_t seed = 0;
  uint32_t choice_idx = 0;
};

struct SampledToken {
  int32_t token = -1;
  std::optional<TokenLogprobs> logprobs;  // if params->logprobs; of the unmodified logits
};

// Holds scratch memory only: a result does not depend on earlier calls. One thread at a time.
class Sampler {
 public:
  // 1. Logits, in double, rounded to fp32 after the bias and after the penalties: logit_bias is added;
  //    repetition_penalty divides a positive logit and multiplies another, for tokens in prompt or output;
  //    - frequency_penalty * count, then - presence_penalty, for tokens in output.
  // 2. Masks: tokens outside `allowed` are out; so are end-of-text and stop tokens before min_tokens, unless nothing
  //    else is left (a grammar that has ended must be able to end).
  // 3. Greedy: the largest logit, the lowest id among equals. Otherwise tokens have integer weights (softmax.h, with
  //    1 / temperature); in the order (logit falling, id rising) those below max(1, ceil(min_p * 2^44)) are out, then
  //    all but the first top_k, then all after the shortest prefix that weighs ceil(top_p * total). With R the 64
  //    random bits, the token is the first whose running sum of weights exceeds (R * total) >> 64.
  // Sums of weights are exact, so how the order is found changes nothing.
  // Throws Error when a logit is not finite or no token is allowed.
  SampledToken sample(const SampleInput& in);

 private:
  std::span<const float> modified_logits(const SampleInput& in);
  void apply_penalties(const SampleInput& in);
  void apply_masks(const SampleInput& in);
  int32_t draw(std::span<const float> x, float max, const SampleInput& in);

  std::vector<float> x_;         // the row after bias, penalties and masks
  std::vector<int32_t> counts_;  // [vocab], all 0 between calls
  std::vector<int32_t> touched_;
  Candidates candidates_;
};

}  // namespace comet
