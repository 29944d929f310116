// SPDX-License-Identifier: Apache-2.0
#include "engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <random>

#include "base/check.h"
#include "reference_sampler.h"

namespace comet {
namespace {

using Tokens = std::vector<int32_t>;

// Logits like a model's: a bell, some outliers, and ties (multiples of 1/8) so that the order by id matters.
std::vector<float> random_logits(size_t vocab, double spread, std::mt19937& random) {
  std::normal_distribution<double> bell(0, spread);
  std::vector<float> x(vocab);
  for (float& value : x) value = static_cast<float>(std::round(bell(random) * 8) / 8);
  for (int i = 0; i < 3; ++i) x[random() % vocab] += static_cast<float>(spread * 3);
  return x;
}

Tokens random_tokens(size_t count, size_t vocab, std::mt19937& random) {
  Tokens tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % vocab);
  return tokens;
}

template <typename T>
T pick(std::initializer_list<T> values, std::mt19937& random) {
  return values.begin()[random() % values.size()];
}

SamplingParams random_params(size_t vocab, std::mt19937& random) {
  SamplingParams p;
  p.temperature = pick({0.0, 0.05, 0.3, 0.8, 1.0, 1.0, 2.0, 50.0}, random);
  p.top_k = pick({0, 0, -1, 1, 2, 5, 40, 300, 100000}, random);
  p.top_p = pick({1.0, 1.0, 0.99, 0.9, 0.5, 0.1, 1e-6}, random);
  p.min_p = pick({0.0, 0.0, 0.0, 1e-13, 1e-4, 0.05, 0.5, 1.0}, random);
  p.repetition_penalty = pick({1.0, 1.0, 1.3, 0.7}, random);
  p.presence_penalty = pick({0.0, 0.0, 1.5, -1.0}, random);
  p.frequency_penalty = pick({0.0, 0.0, 0.25, -0.5}, random);
  for (int i = pick({0, 0, 3}, random); i > 0; --i)
    p.logit_bias[static_cast<int32_t>(random() % vocab)] = pick({-100.0f, -1.5f, 2.25f, 100.0f}, random);
  p.min_tokens = pick({0, 0, 5}, random);
  p.stop_token_ids = random_tokens(random() % 3, vocab, random);
  return p;
}

TEST(Sampler, AgreesWithTheObviousReference) {
  std::mt19937 random(11);
  Sampler sampler;  // one for all: nothing may be left from an earlier row
  for (int round = 0; round < 700; ++round) {
    const size_t vocab = pick<size_t>({1, 2, 33, 100, 1000, 9000}, random);
    const std::vector<float> logits = random_logits(vocab, pick({0.0, 0.2, 2.0, 12.0}, random), random);
    const SamplingParams params = random_params(vocab, random);
    validate(params, static_cast<int>(vocab));
    const Tokens prompt = random_tokens(1 + random() % 20, vocab, random),
                 output = random_tokens(random() % 10, vocab, random);
    const Tokens eos = random_tokens(random() % 3, vocab, random);
    std::vector<uint32_t> allowed;
    if (random() % 3 == 0) {
      allowed.assign((vocab + 31) / 32, 0);
      for (size_t i = 0; i <= vocab / 4; ++i) {
        const size_t id = random() % vocab;
        allowed[id / 32] |= 1u << (id % 32);
      }
    }
    const SampleInput in{.logits = logits,
                         .params = &params,
                         .prompt = prompt,
                         .output = output,
                         .eos_token_ids = eos,
                         .allowed = allowed,
                         .seed = random(),
                         .choice_idx = static_cast<uint32_t>(random() % 4)};
    ASSERT_EQ(sampler.sample(in).token, reference::sample(in))
        << "round " << round << ", vocab " << vocab << ", temperature " << params.temperature << ", top_k "
        << params.top_k << ", top_p " << params.top_p << ", min_p " << params.min_p;
  }
}

TEST(Sampler, AgreesWithTheReferenceOnALargeVocabulary) {
  std::mt19937 random(12);
  Sampler sampler;
  for (int round = 0; round < 12; ++round) {
    const std::vector<float> logits = random_logits(128256, 2.5, random);
    SamplingParams params{.temperature = pick({0.7, 1.0, 1.5}, random),
                          .top_k = round % 3 == 0 ? 50 : 0,
                          .top_p = round % 2 == 0 ? 0.9 : 1.0,
                          .min_p = round % 4 == 1 ? 0.02 : 0.0};
    const SampleInput in{.logits = logits, .params = &params, .seed = random()};
    ASSERT_EQ(sampler.sample(in).token, reference::sample(in)) << round;
  }
}

TEST(Sampler, GreedyTakesTheLowestIdAmongEquals) {
  std::vector<float> logits(100, 1.0f);
  const SamplingParams params{.temperature = 0};
  EXPECT_EQ(Sampler().sample({.logits = logits, .params = &params}).token, 0);
  logits[40] = logits[71] = 2;
  EXPECT_EQ(Sampler().sample({.logits = logits, .params = &params}).token, 40);
  const SamplingParams cold{.temperature = 0.9e-5};
  EXPECT_EQ(Sampler().sample({.logits = logits, .params = &cold}).token, 40);
}

TEST(Sampler, SeedChoiceAndPositionDecideAndNothingElse) {
  std::mt19937 random(13);
  const std::vector<float> logits = random_logits(500, 1, random);
  const SamplingParams params;
  const Tokens tokens = random_tokens(30, 500, random);
  const auto sample = [&](uint64_t seed, uint32_t choice, size_t prompt, size_t output) {
    return Sampler()
        .sample({.logits = logits,
                 .params = &params,
                 .prompt = std::span(tokens).first(prompt),
                 .output = std::span(tokens).subspan(prompt, output),
                 .seed = seed,
                 .choice_idx = choice})
        .token;
  };
  int differ_by_seed = 0, differ_by_choice = 0, differ_by_position = 0;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const int32_t token = sample(seed, 0, 10, 5);
    EXPECT_EQ(token, sample(seed, 0, 10, 5));
    EXPECT_EQ(token, sample(seed, 0, 3, 12));  // the same position
    differ_by_seed += token != sample(seed + 1, 0, 10, 5);
    differ_by_choice += token != sample(seed, 1, 10, 5);
    differ_by_position += token != sample(seed, 0, 10, 6);
  }
  EXPECT_GT(std::min({differ_by_seed, differ_by_choice, differ_by_position}), 40);
}

// Fixed for ever: a change here changes what users get for their seeds.
TEST(Sampler, TokensOfSeedsAreTheSameEverywhere) {
  std::vector<float> logits(1000);
  for (size_t i = 0; i < logits.size(); ++i)
    logits[i] = static_cast<float>(random_bits(99, 0, static_cast<uint32_t>(i)) % 8192) / 1024.0f;
  const SamplingParams plain, filtered{.temperature = 0.7, .top_k = 200, .top_p = 0.9, .min_p = 0.05};
  Sampler sampler;
  Tokens tokens;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    tokens.push_back(sampler.sample({.logits = logits, .params = &plain, .seed = seed}).token);
    tokens.push_back(sampler.sample({.logits = logits, .params = &filtered, .seed = seed}).token);
  }
  EXPECT_EQ(tokens, (Tokens{87, 196, 995, 310, 885, 805, 982, 387, 10, 431, 387, 707}));
}

TEST(Sampler, PenaltiesAsPublished) {
  const std::vector<float> logits = {2, 2, 2, -2, 2};
  SamplingParams params{.repetition_penalty = 2, .presence_penalty = 0.25, .frequency_penalty = 0.5, .logprobs = 5};
  const Tokens prompt = {0, 3}, output = {1, 1, 0};
  const SampleInput in{.logits = logits, .params = &params, .prompt = prompt, .output = output};
  // Token 0: 2 / 2 - 0.5 - 0.25; 1: 2 / 2 - 2 * 0.5 - 0.25; 2 and 4: untouched; 3 (prompt only): -2 * 2.
  std::map<int32_t, int> counts;
  const int rounds = 40000;
  Sampler sampler;
  for (uint64_t seed = 0; seed < rounds; ++seed) {
    SampleInput seeded = in;
    seeded.seed = seed;
    counts[sampler.sample(seeded).token] += 1;
  }
  const std::vector<double> expected = {0.25, -0.25, 2, -4, 2};
  double sum = 0;
  for (const double x : expected) sum += std::exp(x);
  for (size_t id = 0; id < expected.size(); ++id) {
    const double p = std::exp(expected[id]) / sum;
    EXPECT_NEAR(counts[static_cast<int32_t>(id)], rounds * p, 5 * std::sqrt(rounds * p)) << id;
  }
}

TEST(Sampler, MinTokensHoldsBackEveryStop) {
  std::vector<float> logits(40, 0.0f);
  logits[7] = 9;  // end of text
  logits[8] = 8;  // stop token
  logits[9] = 7;
  SamplingParams params{.temperature = 0, .min_tokens = 2, .stop_token_ids = {8}};
  const Tokens eos = {7}, one = {1}, two = {1, 1};
  EXPECT_EQ(Sampler().sample({.logits = logits, .params = &params, .output = one, .eos_token_ids = eos}).token, 9);
  EXPECT_EQ(Sampler().sample({.logits = logits, .params = &params, .output = two, .eos_token_ids = eos}).token, 7);
  const std::vector<uint32_t> only_eos = {1u << 7, 0};  // a grammar at its end
  EXPECT_EQ(Sampler()
                .sample({.logits = logits, .params = &params, .output = one, .eos_token_ids = eos, .allowed = only_eos})
                .token,
            7);
}

TEST(Sampler, LogprobsAreThoseOfTheUnmodifiedLogits) {
  std::mt19937 random(14);
  for (const size_t vocab : {1, 5, 3000}) {
    std::vector<float> logits = random_logits(vocab, 2, random);
    const SamplingParams params{.temperature = 0.3, .top_k = 3, .logit_bias = {{0, 50.0f}}, .logprobs = 5};
    const SampledToken sampled = Sampler().sample({.logits = logits, .params = &params, .seed = 5});
    ASSERT_TRUE(sampled.logprobs.has_value());
    double sum = 0;
    for (const float x : logits) sum += std::exp(double{x});
    const auto expected = [&](int32_t id) { return double{logits[static_cast<size_t>(id)]} - std::log(sum); };
    EXPECT_NEAR(sampled.logprobs->logprob, expected(sampled.token), 1e-6);
    Tokens ids(vocab);
    for (size_t id = 0; id < vocab; ++id) ids[id] = static_cast<int32_t>(id);
    std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
      return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
    });
    ASSERT_EQ(sampled.logprobs->top.size(), std::min<size_t>(5, vocab));
    for (size_t i = 0; i < sampled.logprobs->top.size(); ++i) {
      EXPECT_EQ(sampled.logprobs->top[i].token, ids[i]);
      EXPECT_NEAR(sampled.logprobs->top[i].logprob, expected(ids[i]), 1e-6);
    }
  }
  std::vector<float> tied(500, 1.0f);
  tied[300] = tied[77] = 2;
  Tokens top;
  for (const TokenLogprob& t : token_logprobs(tied, 0, 4).top) top.push_back(t.token);
  EXPECT_EQ(top, (Tokens{77, 300, 0, 1}));
  const std::vector<float> certain = {90, 0, 0};
  EXPECT_EQ(token_logprobs(certain, 0, 0).logprob, 0.0f);
  EXPECT_EQ(token_logprobs(certain, 1, 0).logprob, -90.0f);
  EXPECT_FALSE(Sampler().sample({.logits = certain, .params = std::make_unique<SamplingParams>().get()}).logprobs);
}

TEST(Sampler, BrokenRowsAreErrorsAndLeaveNothingBehind) {
  std::vector<float> logits(50, 1.0f);
  const SamplingParams params{.temperature = 0, .presence_penalty = 1.5, .frequency_penalty = 1};
  const std::vector<uint32_t> nothing(2, 0), short_mask(1, 1);
  const Tokens bad_token = {3, 50}, good = {0, 0, 1};
  Sampler sampler;
  EXPECT_THROW(sampler.sample({.logits = logits, .params = &params, .allowed = nothing}), Error);
  EXPECT_THROW(sampler.sample({.logits = logits, .params = &params, .allowed = short_mask}), Error);
  EXPECT_THROW(sampler.sample({.logits = logits, .params = &params, .output = bad_token}), Error);
  EXPECT_EQ(sampler.sample({.logits = logits, .params = &params, .output = good}).token, 2);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    logits[31] = bad;
    EXPECT_THROW(sampler.sample({.logits = logits, .params = &params}), Error);
  }
}

TEST(Sampler, ExtremeLogitsAndPenaltiesStayDefined) {
  const float huge = std::numeric_limits<float>::max();
  const std::vector<float> logits = {huge, -huge, 0, huge};
  const Tokens output = {0, 1, 2};
  for (const double penalty : {1e-300, 1e300}) {
    const SamplingParams params{.temperature = 1e-3, .repetition_penalty = penalty, .logit_bias = {{0, 100.0f}}};
    EXPECT_EQ(Sampler().sample({.logits = logits, .params = &params, .output = output}).token, penalty > 1 ? 3 : 0);
  }
  const SamplingParams hot{.temperature = 1e308};
  std::map<int32_t, int> counts;
  for (uint64_t seed = 0; seed < 400; ++seed)
    counts[Sampler().sample({.logits = logits, .params = &hot, .seed = seed}).token] += 1;
  EXPECT_EQ(counts.size(), 4u);
}

}  // namespace
}  // namespace comet
