// SPDX-License-Identifier: Apache-2.0
// Random and prefix workloads, arrivals, warm-up: the same options give the same requests.
#include "loadgen/workload.h"

#include <gmock/gmock.h>

#include <numeric>
#include <set>

#include "base/check.h"

namespace comet::loadgen {
namespace {

using api::BenchDataset;
using api::BenchServeOptions;
using testing::Each;
using testing::Ge;
using testing::HasSubstr;
using testing::Lt;

std::vector<std::vector<int32_t>> all_ids(const Workload& w, int vocab = 1000) {
  std::vector<std::vector<int32_t>> out;
  for (const Request& r : w.requests) out.push_back(prompt_ids(r, vocab));
  return out;
}

std::string error_of(const BenchServeOptions& o, int context = 0) {
  try {
    make_workload(o, context);
  } catch (const InvalidInput& e) {
    return e.what();
  }
  return "";
}

TEST(Workload, RandomIsDecidedByTheSeed) {
  BenchServeOptions o{.num_prompts = 20, .input_len = 50, .output_len = 10, .range_ratio = 0.5, .request_rate = 5};
  const Workload a = make_workload(o, 0), b = make_workload(o, 0);
  o.seed = 1;
  const Workload c = make_workload(o, 0);
  EXPECT_EQ(all_ids(a), all_ids(b));
  EXPECT_NE(all_ids(a), all_ids(c));
  ASSERT_EQ(a.requests.size(), 20u);
  for (size_t i = 0; i < a.requests.size(); ++i) {
    EXPECT_EQ(a.requests[i].planned_s, b.requests[i].planned_s);
    EXPECT_EQ(a.requests[i].output_len, b.requests[i].output_len);
  }
}

TEST(Workload, TokensOfASeedDoNotMove) {  // numbers of published runs stay comparable
  const Workload w = make_workload({.num_prompts = 1, .input_len = 6}, 0);
  const std::vector<int32_t> ids = prompt_ids(w.requests[0], 256);
  EXPECT_EQ(ids, (std::vector<int32_t>{249, 28, 97, 56, 231, 161}));
}

TEST(Workload, IdsAreOrdinaryTokensOfTheVocabulary) {
  const Workload w = make_workload({.num_prompts = 50, .input_len = 100}, 0);
  std::set<int32_t> seen;
  for (const auto& ids : all_ids(w, 10)) {
    EXPECT_THAT(ids, Each(Ge(kFirstId)));
    EXPECT_THAT(ids, Each(Lt(10)));
    seen.insert(ids.begin(), ids.end());
  }
  EXPECT_EQ(seen.size(), 7u);  // 3..9
}

TEST(Workload, LengthsStayInTheirRangeAndReachItsEnds) {
  const Workload w = make_workload({.num_prompts = 2000, .input_len = 10, .output_len = 4, .range_ratio = 0.5}, 0);
  std::set<int> inputs, outputs;
  for (const Request& r : w.requests) inputs.insert(r.input_len()), outputs.insert(r.output_len);
  EXPECT_EQ(inputs.size(), 11u);
  EXPECT_EQ(*inputs.begin(), 5);
  EXPECT_EQ(*inputs.rbegin(), 15);
  EXPECT_EQ(*outputs.begin(), 2);
  EXPECT_EQ(*outputs.rbegin(), 6);
}

TEST(Workload, PrefixesAreSharedAndSuffixesAreNot) {
  BenchServeOptions o{
      .dataset = BenchDataset::prefix, .num_prompts = 40, .prefix_len = 30, .suffix_len = 8, .num_prefixes = 3};
  std::set<std::vector<int32_t>> prefixes, suffixes;
  for (const auto& ids : all_ids(make_workload(o, 0))) {
    ASSERT_EQ(ids.size(), 38u);
    prefixes.emplace(ids.begin(), ids.begin() + 30);
    suffixes.emplace(ids.begin() + 30, ids.end());
  }
  EXPECT_EQ(prefixes.size(), 3u);
  EXPECT_EQ(suffixes.size(), 40u);
}

TEST(Workload, ChatPromptsShareWordsAsTheyShareTokens) {
  const Request a{.segments = {{7, 20}, {8, 5}}}, b{.segments = {{7, 20}, {9, 5}}};
  const std::string x = prompt_text(a), y = prompt_text(b);
  EXPECT_NE(x, y);
  EXPECT_EQ(std::count(x.begin(), x.end(), ' '), 24);
  const std::string first = prompt_text({.segments = {{7, 20}}});
  EXPECT_TRUE(x.starts_with(first + " ") && y.starts_with(first + " "));
}

// Mean and variance of the gaps, which a gamma distribution with mean 1 / rate and this shape has.
TEST(Workload, ArrivalsHaveTheRateAndBurstiness) {
  for (const double burstiness : {0.25, 1.0, 4.0}) {
    BenchServeOptions o{.num_prompts = 20001, .input_len = 1, .request_rate = 8, .burstiness = burstiness};
    const Workload w = make_workload(o, 0);
    ASSERT_TRUE(w.is_scheduled);
    std::vector<double> gaps;
    for (size_t i = 1; i < w.requests.size(); ++i)
      gaps.push_back(w.requests[i].planned_s - w.requests[i - 1].planned_s);
    const double n = static_cast<double>(gaps.size()), mean = std::accumulate(gaps.begin(), gaps.end(), 0.0) / n;
    double variance = 0;
    for (const double g : gaps) variance += (g - mean) * (g - mean) / n;
    const double sigma = 1 / std::sqrt(burstiness * n);  // of the mean, relative
    EXPECT_NEAR(mean * 8, 1, 4 * sigma) << burstiness;
    EXPECT_NEAR(variance * 64 * burstiness, 1, 0.15) << burstiness;
  }
}

TEST(Workload, WithoutARateThereIsNoSchedule) { EXPECT_FALSE(make_workload({.num_prompts = 3}, 0).is_scheduled); }

TEST(Workload, WarmupHasTheLengthsAndNothingElse) {
  const Workload w = make_workload({.num_prompts = 5, .input_len = 40, .range_ratio = 0.5}, 0);
  const std::vector<Request> warm = make_warmup(w, 7, 0);
  ASSERT_EQ(warm.size(), 7u);
  for (size_t i = 0; i < warm.size(); ++i) {
    EXPECT_EQ(warm[i].input_len(), w.requests[i % 5].input_len());
    for (const Request& r : w.requests)
      EXPECT_NE(prompt_ids(warm[i], 1000)[0] * 1000 + prompt_ids(warm[i], 1000)[1],
                prompt_ids(r, 1000)[0] * 1000 + prompt_ids(r, 1000)[1]);
  }
}

TEST(Workload, RefusesWhatCannotBe) {
  EXPECT_THAT(error_of({.num_prompts = 0}), HasSubstr("--num-prompts is 0"));
  EXPECT_THAT(error_of({.range_ratio = 1}), HasSubstr("--range-ratio"));
  EXPECT_THAT(error_of({.burstiness = 0}), HasSubstr("--burstiness"));
  EXPECT_THAT(error_of({.trace_speed = 0}), HasSubstr("--trace-speed"));
  EXPECT_THAT(error_of({.dataset = BenchDataset::trace_azure, .trace_file = "x", .request_rate = 1}),
              HasSubstr("--trace-speed"));
  EXPECT_THAT(error_of({.dataset = BenchDataset::trace_azure, .trace_file = "no/such"}), HasSubstr("no/such"));
  EXPECT_THAT(error_of({.input_len = 100, .output_len = 29}, 128), HasSubstr("100 + 29 tokens"));
  EXPECT_EQ(error_of({.input_len = 100, .output_len = 28}, 128), "");
}

}  // namespace
}  // namespace comet::loadgen
