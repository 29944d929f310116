// SPDX-License-Identifier: Apache-2.0
// The sampler as its header states it, slow and obvious: full sort, libm's exp and log.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <vector>

#include "engine/random.h"
#include "engine/sampler.h"

namespace comet::reference {

struct Choice {
  int32_t token;
  double probability;
};

inline std::vector<float> modified_logits(const SampleInput& in) {
  const SamplingParams& p = *in.params;
  std::vector<float> x(in.logits.begin(), in.logits.end());
  for (size_t id = 0; id < x.size(); ++id) {
    const auto token = static_cast<int32_t>(id);
    if (p.logit_bias.count(token) != 0) x[id] = static_cast<float>(double{x[id]} + p.logit_bias.at(token));
    const auto in_prompt = std::count(in.prompt.begin(), in.prompt.end(), token);
    const auto in_output = std::count(in.output.begin(), in.output.end(), token);
    if (in_prompt + in_output > 0) {
      double y = x[id];
      y = y > 0 ? y / p.repetition_penalty : y * p.repetition_penalty;
      y = y - p.frequency_penalty * static_cast<double>(in_output);
      if (in_output > 0) y = y - p.presence_penalty;
      x[id] = static_cast<float>(y);
    }
    if (!in.allowed.empty() && (in.allowed[id / 32] >> (id % 32)) % 2 == 0)
      x[id] = -std::numeric_limits<float>::infinity();
  }
  if (static_cast<int>(in.output.size()) < p.min_tokens) {
    std::vector<float> held = x;
    for (const int32_t token : in.eos_token_ids)
      held[static_cast<size_t>(token)] = -std::numeric_limits<float>::infinity();
    for (const int32_t token : p.stop_token_ids)
      held[static_cast<size_t>(token)] = -std::numeric_limits<float>::infinity();
    if (std::any_of(held.begin(), held.end(), [](float y) { return std::isfinite(y); })) x = held;
  }
  return x;
}

// The tokens that may be drawn, most likely first, with their weights.
inline std::vector<std::pair<int32_t, uint64_t>> weighted_tokens(const SampleInput& in) {
  const SamplingParams& p = *in.params;
  const std::vector<float> x = modified_logits(in);
  const double max = *std::max_element(x.begin(), x.end());
  std::vector<int32_t> ids(x.size());
  for (size_t id = 0; id < ids.size(); ++id) ids[id] = static_cast<int32_t>(id);
  std::stable_sort(ids.begin(), ids.end(),
                   [&](int32_t a, int32_t b) { return x[static_cast<size_t>(a)] > x[static_cast<size_t>(b)]; });
  std::vector<std::pair<int32_t, uint64_t>> kept;
  const double one = std::ldexp(1.0, 44);
  const auto min_weight = std::max<uint64_t>(1, static_cast<uint64_t>(std::ceil(p.min_p * one)));
  for (const int32_t id : ids) {
    const double y = (double{x[static_cast<size_t>(id)]} - max) * (1 / p.temperature);
    const auto weight = static_cast<uint64_t>(std::nearbyint(std::exp(y) * one));
    if (weight >= min_weight) kept.emplace_back(id, weight);
  }
  if (p.top_k > 0 && kept.size() > static_cast<size_t>(p.top_k)) kept.resize(static_cast<size_t>(p.top_k));
  uint64_t total = 0;
  for (const auto& [id, weight] : kept) total += weight;
  if (p.top_p < 1) {
    const auto target = static_cast<uint64_t>(std::ceil(p.top_p * static_cast<double>(total)));
    uint64_t sum = 0;
    size_t count = 0;
    while (count == 0 || sum < std::min(target, total)) sum += kept[count++].second;
    kept.resize(count);
  }
  return kept;
}

inline std::vector<Choice> distribution(const SampleInput& in) {
  const auto kept = weighted_tokens(in);
  double total = 0;
  for (const auto& [id, weight] : kept) total += static_cast<double>(weight);
  std::vector<Choice> out;
  for (const auto& [id, weight] : kept) out.push_back({id, static_cast<double>(weight) / total});
  return out;
}

inline int32_t sample(const SampleInput& in) {
  if (in.params->temperature < kGreedyTemperature) {
    const std::vector<float> x = modified_logits(in);
    return static_cast<int32_t>(std::max_element(x.begin(), x.end()) - x.begin());
  }
  const auto kept = weighted_tokens(in);
  uint64_t total = 0;
  for (const auto& [id, weight] : kept) total += weight;
  const uint64_t bits = random_bits(in.seed, in.choice_idx, static_cast<uint32_t>(in.prompt.size() + in.output.size()));
  // (bits * total) >> 64 from 32-bit halves
  const uint64_t b1 = bits >> 32, b0 = bits & 0xffffffff, t1 = total >> 32, t0 = total & 0xffffffff;
  const uint64_t middle = (b0 * t0 >> 32) + (b1 * t0 & 0xffffffff) + (b0 * t1 & 0xffffffff);
  const uint64_t at = b1 * t1 + (b1 * t0 >> 32) + (b0 * t1 >> 32) + (middle >> 32);
  uint64_t sum = 0;
  for (const auto& [id, weight] : kept) {
    sum += weight;
    if (sum > at) return id;
  }
  return -1;
}

}  // namespace comet::reference
