// SPDX-License-Identifier: Apache-2.0
#include "engine/sampling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

namespace comet {
namespace {

constexpr int kVocab = 100;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

TEST(SamplingParams, DefaultsAndEdgesAreAccepted) {
  EXPECT_NO_THROW(validate({}, kVocab));
  EXPECT_NO_THROW(validate({.temperature = 0,
                            .top_k = -1,
                            .top_p = 1e-9,
                            .min_p = 1,
                            .presence_penalty = -2,
                            .frequency_penalty = 2,
                            .logit_bias = {{0, -100.f}, {99, 100.f}},
                            .n = kMaxChoices,
                            .max_tokens = 1,
                            .min_tokens = 1,
                            .stop_token_ids = {0, 99},
                            .logprobs = kMaxLogprobs},
                           kVocab));
}

struct BadField {
  const char* field;
  const char* value;  // as the message shows it
  const char* range;
  std::function<void(SamplingParams&)> set;
};

TEST(SamplingParams, RefusesWhatIsOutOfRange) {
  const BadField cases[] = {
      {"temperature", "-5", "at least 0", [](auto& p) { p.temperature = -5; }},
      {"temperature", "nan", "at least 0", [](auto& p) { p.temperature = kNan; }},
      {"temperature", "inf", "finite", [](auto& p) { p.temperature = kInf; }},
      {"top_k", "-2", "at least 1", [](auto& p) { p.top_k = -2; }},
      {"top_p", "0", "above 0", [](auto& p) { p.top_p = 0; }},
      {"top_p", "1.5", "at most 1", [](auto& p) { p.top_p = 1.5; }},
      {"top_p", "nan", "at most 1", [](auto& p) { p.top_p = kNan; }},
      {"min_p", "-0.1", "from 0 to 1", [](auto& p) { p.min_p = -0.1; }},
      {"min_p", "1.1", "from 0 to 1", [](auto& p) { p.min_p = 1.1; }},
      {"repetition_penalty", "0", "above 0", [](auto& p) { p.repetition_penalty = 0; }},
      {"repetition_penalty", "inf", "finite", [](auto& p) { p.repetition_penalty = kInf; }},
      {"presence_penalty", "2.5", "from -2 to 2", [](auto& p) { p.presence_penalty = 2.5; }},
      {"frequency_penalty", "-2.5", "from -2 to 2", [](auto& p) { p.frequency_penalty = -2.5; }},
      {"frequency_penalty", "nan", "from -2 to 2", [](auto& p) { p.frequency_penalty = kNan; }},
      {"logit_bias", "100", "from 0 to 99",
       [](auto& p) {
         p.logit_bias = {{100, 1.f}};
       }},
      {"logit_bias", "-1", "from 0 to 99",
       [](auto& p) {
         p.logit_bias = {{-1, 1.f}};
       }},
      {"logit_bias", "101", "from -100 to 100",
       [](auto& p) {
         p.logit_bias = {{5, 101.f}};
       }},
      {"n", "0", "from 1 to 128", [](auto& p) { p.n = 0; }},
      {"n", "129", "from 1 to 128", [](auto& p) { p.n = 129; }},
      {"max_tokens", "0", "at least 1", [](auto& p) { p.max_tokens = 0; }},
      {"min_tokens", "-1", "at least 0", [](auto& p) { p.min_tokens = -1; }},
      {"min_tokens", "9", "at most max_tokens, which is 8", [](auto& p) { p.min_tokens = 9, p.max_tokens = 8; }},
      {"stop_token_ids", "100", "from 0 to 99",
       [](auto& p) {
         p.stop_token_ids = {3, 100};
       }},
      {"logprobs", "21", "from 0 to 20", [](auto& p) { p.logprobs = 21; }},
      {"logprobs", "-1", "from 0 to 20", [](auto& p) { p.logprobs = -1; }},
  };
  for (const BadField& bad : cases) {
    SamplingParams params;
    bad.set(params);
    try {
      validate(params, kVocab);
      ADD_FAILURE() << bad.field << " = " << bad.value << " was accepted";
    } catch (const InvalidParameter& error) {
      EXPECT_EQ(error.field, bad.field);
      EXPECT_THAT(error.what(), testing::StartsWith(bad.field));
      EXPECT_THAT(error.what(), testing::HasSubstr(bad.value));
      EXPECT_THAT(error.what(), testing::HasSubstr(bad.range));
    }
  }
}

}  // namespace
}  // namespace comet
