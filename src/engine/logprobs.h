// SPDX-License-Identifier: Apache-2.0
// Log-probabilities of a row of logits, as OpenAI reports them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace comet {

struct TokenLogprob {
  int32_t token;
  float logprob;
};

struct TokenLogprobs {
  float logprob;                  // of the token asked about
  std::vector<TokenLogprob> top;  // the most likely tokens, logit falling, id rising
};

// Log-softmax of `logits` ([vocab], finite) at `token` and at its `num_top` most likely tokens. For prompt tokens too.
TokenLogprobs token_logprobs(std::span<const float> logits, int32_t token, int num_top);

}  // namespace comet
