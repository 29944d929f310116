// SPDX-License-Identifier: Apache-2.0
#include "engine/sampling.h"

#include <cmath>
#include <string_view>

namespace comet {
namespace {

template <typename T>
void require(bool holds, const char* field, const T& value, std::string_view range) {
  if (!holds) throw InvalidParameter(field, fmt::format("{} is {}, must be {}", field, value, range));
}

bool in_range(double x, double low, double high) { return x >= low && x <= high; }  // false for NaN

}  // namespace

void validate(const SamplingParams& p, int vocab_size) {
  const std::string tokens = fmt::format("token ids from 0 to {}", vocab_size - 1);
  const auto is_token = [&](int32_t id) { return id >= 0 && id < vocab_size; };

  require(std::isfinite(p.temperature) && p.temperature >= 0, "temperature", p.temperature, "finite and at least 0");
  require(p.top_k >= -1, "top_k", p.top_k, "at least 1, or 0 or -1 for no limit");
  require(p.top_p > 0 && p.top_p <= 1, "top_p", p.top_p, "above 0 and at most 1");
  require(in_range(p.min_p, 0, 1), "min_p", p.min_p, "from 0 to 1");
  require(std::isfinite(p.repetition_penalty) && p.repetition_penalty > 0, "repetition_penalty", p.repetition_penalty,
          "finite and above 0");
  require(in_range(p.presence_penalty, -2, 2), "presence_penalty", p.presence_penalty, "from -2 to 2");
  require(in_range(p.frequency_penalty, -2, 2), "frequency_penalty", p.frequency_penalty, "from -2 to 2");
  for (const auto& [token, bias] : p.logit_bias) {
    require(is_token(token), "logit_bias", fmt::format("for token {}", token), "for " + tokens);
    require(in_range(bias, -100, 100), "logit_bias", fmt::format("{} (token {})", bias, token), "from -100 to 100");
  }
  require(p.n >= 1 && p.n <= kMaxChoices, "n", p.n, fmt::format("from 1 to {}", kMaxChoices));
  if (p.max_tokens) require(*p.max_tokens >= 1, "max_tokens", *p.max_tokens, "at least 1");
  require(p.min_tokens >= 0, "min_tokens", p.min_tokens, "at least 0");
  if (p.max_tokens) {
    require(p.min_tokens <= *p.max_tokens, "min_tokens", p.min_tokens,
            fmt::format("at most max_tokens, which is {}", *p.max_tokens));
  }
  for (const int32_t token : p.stop_token_ids) require(is_token(token), "stop_token_ids", token, tokens);
  if (p.logprobs) {
    require(*p.logprobs >= 0 && *p.logprobs <= kMaxLogprobs, "logprobs", *p.logprobs,
            fmt::format("from 0 to {}", kMaxLogprobs));
  }
}

}  // namespace comet
