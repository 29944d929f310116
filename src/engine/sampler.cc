// SPDX-License-Identifier: Apache-2.0
#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/check.h"
#include "engine/random.h"
#include "engine/softmax.h"

namespace comet {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

bool has_penalties(const SamplingParams& p) {
  return p.repetition_penalty != 1.0 || p.presence_penalty != 0.0 || p.frequency_penalty != 0.0;
}

bool holds_back_stops(const SampleInput& in) {
  return in.output.size() < static_cast<size_t>(in.params->min_tokens) &&
         !(in.eos_token_ids.empty() && in.params->stop_token_ids.empty());
}

void check_tokens(std::span<const int32_t> tokens, size_t vocab) {
  for (const int32_t token : tokens)
    COMET_CHECK(token >= 0 && static_cast<size_t>(token) < vocab, "token {} of {}", token, vocab);
}

float to_logit(double x) {
  return static_cast<float>(std::clamp(x, -static_cast<double>(kLargest), static_cast<double>(kLargest)));
}

// A float below x (or the lowest), whatever way the conversion rounds.
float round_down(double x) {
  if (x <= -static_cast<double>(kLargest)) return -kLargest;
  return std::nextafterf(static_cast<float>(x), -kInfinity);
}

}  // namespace

SampledToken Sampler::sample(const SampleInput& in) {
  COMET_CHECK(in.params != nullptr);
  COMET_CHECK(!in.logits.empty() && in.logits.size() <= kMaxVocab, "{} logits", in.logits.size());
  COMET_CHECK(is_finite_row(in.logits), "a logit is not finite");
  const std::span<const float> x = modified_logits(in);
  const float max = row_max(x);
  COMET_CHECK(max > -kInfinity, "no token is allowed");

  SampledToken out;
  if (in.params->temperature < kGreedyTemperature) {
    out.token = static_cast<int32_t>(std::find(x.begin(), x.end(), max) - x.begin());
  } else {
    out.token = draw(x, max, in);
  }
  if (in.params->logprobs) out.logprobs = token_logprobs(in.logits, out.token, *in.params->logprobs);
  return out;
}

std::span<const float> Sampler::modified_logits(const SampleInput& in) {
  const SamplingParams& p = *in.params;
  if (p.logit_bias.empty() && !has_penalties(p) && in.allowed.empty() && !holds_back_stops(in)) return in.logits;
  x_.assign(in.logits.begin(), in.logits.end());
  for (const auto& [token, bias] : p.logit_bias) {
    check_tokens({&token, 1}, x_.size());
    float& x = x_[static_cast<size_t>(token)];
    x = to_logit(static_cast<double>(x) + static_cast<double>(bias));
  }
  if (has_penalties(p)) apply_penalties(in);
  apply_masks(in);
  return x_;
}

void Sampler::apply_penalties(const SampleInput& in) {
  const SamplingParams& p = *in.params;
  check_tokens(in.prompt, x_.size());
  check_tokens(in.output, x_.size());
  counts_.resize(x_.size(), 0);  // 1 + occurrences in the output; 0: seen nowhere
  touched_.clear();
  const auto see = [&](int32_t token, int32_t occurrences) {
    int32_t& count = counts_[static_cast<size_t>(token)];
    if (count == 0) {
      count = 1;
      touched_.push_back(token);
    }
    count += occurrences;
  };
  if (p.repetition_penalty != 1.0)
    for (const int32_t token : in.prompt) see(token, 0);
  for (const int32_t token : in.output) see(token, 1);

  for (const int32_t token : touched_) {
    const int32_t count = std::exchange(counts_[static_cast<size_t>(token)], 0) - 1;
    double x = x_[static_cast<size_t>(token)];
    x = x > 0 ? x / p.repetition_penalty : x * p.repetition_penalty;
    x = (x - p.frequency_penalty * count) - (count > 0 ? p.presence_penalty : 0.0);
    x_[static_cast<size_t>(token)] = to_logit(x);
  }
}

void Sampler::apply_masks(const SampleInput& in) {
  if (!in.allowed.empty()) {
    COMET_CHECK(in.allowed.size() == (x_.size() + 31) / 32, "{} words for {} tokens", in.allowed.size(), x_.size());
    for (size_t word = 0; word < in.allowed.size(); ++word) {
      if (in.allowed[word] == ~uint32_t{0}) continue;
      const size_t end = std::min(x_.size(), word * 32 + 32);
      for (size_t id = word * 32; id < end; ++id)
        if ((in.allowed[word] >> (id % 32) & 1) == 0) x_[id] = -kInfinity;
    }
  }
  if (!holds_back_stops(in)) return;
  std::vector<std::pair<int32_t, float>> held;
  for (const std::span<const int32_t> stops : {in.eos_token_ids, std::span<const int32_t>(in.params->stop_token_ids)}) {
    check_tokens(stops, x_.size());
    for (const int32_t token : stops)
      held.emplace_back(token, std::exchange(x_[static_cast<size_t>(token)], -kInfinity));
  }
  if (row_max(x_) > -kInfinity) return;
  std::reverse(held.begin(), held.end());  // a token listed twice gets its first value back
  for (const auto& [token, x] : held) x_[static_cast<size_t>(token)] = x;
}

int32_t Sampler::draw(std::span<const float> x, float max, const SampleInput& in) {
  const SamplingParams& p = *in.params;
  const uint64_t min_weight =
      std::max<uint64_t>(1, static_cast<uint64_t>(std::ceil(p.min_p * static_cast<double>(kWeightOne))));
  // A floor under the logits saves work and decides nothing, since what it leaves out weighs less than min_weight - 1/2
  // before rounding; the weights and ranks below decide.
  const double margin = stated_log(static_cast<double>(kWeightOne) / (static_cast<double>(min_weight) - 0.5)) + 1e-9;
  float floor = round_down(static_cast<double>(max) - margin * p.temperature);
  if (p.top_k > 0) floor = std::max(floor, kth_largest_bound(x, p.top_k));
  candidates_.collect(x, floor, max, 1.0 / p.temperature, min_weight);

  uint64_t total = candidates_.total_weight();
  if (p.top_k > 0 && static_cast<uint64_t>(p.top_k) < candidates_.num_tokens())
    total = candidates_.at_rank(static_cast<uint64_t>(p.top_k) - 1).weight;
  if (p.top_p < 1) {
    const uint64_t target = static_cast<uint64_t>(std::ceil(p.top_p * static_cast<double>(total)));
    total = candidates_.at_weight(std::clamp<uint64_t>(target, 1, total) - 1).weight;
  }
  const auto position = static_cast<uint32_t>(in.prompt.size() + in.output.size());
  const auto wide = static_cast<unsigned __int128>(random_bits(in.seed, in.choice_idx, position)) * total;
  return candidates_.at_weight(static_cast<uint64_t>(wide >> 64)).token;
}

}  // namespace comet
