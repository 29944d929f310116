// SPDX-License-Identifier: Apache-2.0
// Percentiles, goodput, and the report of records that are known.
#include "loadgen/statistics.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "loadgen/report.h"

namespace comet::loadgen {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Status = RequestRecord::Status;

RequestRecord completed(double start_s, std::vector<double> event_s, int prompt, int output, int cached = 0) {
  return {.status = Status::completed,
          .start_s = start_s,
          .end_s = event_s.back(),
          .event_s = event_s,
          .has_usage = true,
          .prompt_tokens = prompt,
          .output_tokens = output,
          .cached_tokens = cached};
}

TEST(Percentile, AsNumpyInterpolates) {
  const std::vector<double> v = {1, 2, 4, 8};
  EXPECT_EQ(percentile(v, 0), 1);
  EXPECT_EQ(percentile(v, 100), 8);
  EXPECT_EQ(percentile(v, 50), 3);
  EXPECT_DOUBLE_EQ(percentile(v, 90), 6.8);   // numpy.percentile([1, 2, 4, 8], 90)
  EXPECT_DOUBLE_EQ(percentile(v, 99), 7.88);  // .. 99
  EXPECT_EQ(percentile(std::vector{5.0}, 99), 5);
  EXPECT_EQ(percentile({}, 50), 0);
}

TEST(Summary, OfUnsortedValues) {
  const api::BenchDistribution d = summarize({8, 1, 4, 2}, std::vector{90.0});
  EXPECT_EQ(d.count, 4u);
  EXPECT_EQ(d.mean, 3.75);
  EXPECT_EQ(d.median, 3);
  EXPECT_EQ(d.max, 8);
  EXPECT_THAT(d.percentiles, ElementsAre(testing::Pair(90.0, testing::DoubleEq(6.8))));
}

TEST(Goodput, AllLimitsCount) {
  const RequestRecord r = completed(1, {1.5, 1.6, 2.5}, 10, 5);  // TTFT 500, TPOT 250, E2EL 1500 ms
  EXPECT_TRUE(is_good(r, {}));
  EXPECT_TRUE(is_good(r, {{"ttft", 500}, {"tpot", 250}, {"e2el", 1500}}));
  EXPECT_FALSE(is_good(r, {{"ttft", 499}}));
  EXPECT_FALSE(is_good(r, {{"ttft", 501}, {"tpot", 249}}));
  EXPECT_FALSE(is_good(r, {{"e2el", 1499}}));
  EXPECT_THROW(check_goodput({{"itl", 5}}), InvalidInput);
  EXPECT_THROW(check_goodput({{"ttft", 0}}), InvalidInput);
}

class Report : public testing::Test {
 protected:
  Report() {
    options.goodput = {{"ttft", 600}};
    options.percentiles = {50};
    options.detailed = true;
    for (int i = 0; i < 4; ++i)
      workload.requests.push_back({.planned_s = 0.0, .output_len = 5, .segments = {{1, 129}}});
    outcome.records = {completed(0, {0.5, 0.75, 1.0}, 129, 6), completed(1, {2, 4}, 129, 3, 128), {}, {}};
    outcome.records[2] = {
        .status = Status::failed, .start_s = 1, .end_s = 2, .failure = "503 queue_full", .message = "later"};
    outcome.records[3].status = Status::open;
    outcome.records[3].start_s = 3;
    outcome.records[3].end_s = 4;
    outcome.duration_s = 4;
    outcome.cpu_s = 0.4;
  }
  api::BenchServeResult report() {
    return make_report({.options = options, .workload = workload, .outcome = outcome, .model = "m", .vocab_size = 100});
  }

  api::BenchServeOptions options;
  Workload workload;
  LoadOutcome outcome;
};

TEST_F(Report, CountsAndRates) {
  const api::BenchServeResult r = report();
  EXPECT_EQ(r.num_requests, 4);
  EXPECT_EQ(r.num_completed, 2);
  EXPECT_EQ(r.num_failed, 1);
  EXPECT_EQ(r.num_unfinished, 1);
  EXPECT_EQ(r.failures.at("503 queue_full"), 1);
  EXPECT_EQ(r.first_failure, "503 queue_full: later");
  EXPECT_EQ(r.request_throughput, 0.5);
  EXPECT_EQ(r.output_throughput, 9 / 4.0);
  EXPECT_EQ(r.total_throughput, (9 + 258) / 4.0);
  EXPECT_EQ(r.goodput, 0.25);          // the second one's TTFT is 1 s
  EXPECT_EQ(r.mean_concurrency, 1.5);  // 1 + 3 + 1 + 1 seconds in 4
  EXPECT_EQ(r.cpu_utilization, 0.1);
  EXPECT_NEAR(r.cpu_us_per_token, 0.4e6 / 9, 1e-6);
}

TEST_F(Report, Latencies) {
  const api::BenchServeResult r = report();
  EXPECT_EQ(r.ttft.median, 750);
  EXPECT_EQ(r.e2el.mean, 2000);
  EXPECT_EQ(r.itl.count, 3u);
  EXPECT_EQ(r.itl.max, 2000);
  EXPECT_EQ(r.tpot.mean, (500 / 5.0 + 2000 / 2.0) / 2);
}

TEST_F(Report, IdealHitsOfCompletedRequestsInTheOrderTheyWereSent) {
  EXPECT_EQ(report().ideal_hit_tokens, 128);
  options.ideal_blocks = 1;
  EXPECT_EQ(report().ideal_lru_hit_tokens, 64);
  options.endpoint = api::BenchEndpoint::chat;  // nobody but the server knows the tokens
  EXPECT_EQ(report().ideal_hit_tokens, 0);
}

TEST_F(Report, LatenessIsMeasuredAgainstThePlan) {
  EXPECT_EQ(report().lateness.count, 0u);
  workload.is_scheduled = true;
  outcome.records[1].planned_s = 0.995;
  outcome.records[2].planned_s = 1;
  outcome.records[3].planned_s = 3;
  api::BenchServeResult r = report();
  EXPECT_NEAR(r.lateness.max, 5, 1e-9);
  EXPECT_TRUE(r.warnings.empty());
  outcome.records[1].planned_s = 0.5;
  r = report();
  ASSERT_EQ(r.warnings.size(), 1u);
  EXPECT_THAT(r.warnings[0], HasSubstr("late (p99 485 ms)"));
}

TEST_F(Report, WarnsOfABusyClientMissingUsageAndLeftOutRequests) {
  outcome.cpu_s = 3.6;
  outcome.records[0].has_usage = false;
  workload.num_too_long = 5;
  const std::string all = testing::PrintToString(report().warnings);
  EXPECT_THAT(all, HasSubstr("busy 90%"));
  EXPECT_THAT(all, HasSubstr("no usage"));
  EXPECT_THAT(all, HasSubstr("5 requests of the trace"));
}

TEST_F(Report, JsonHasVllmsNamesAndRows) {
  const auto json = nlohmann::json::parse(report().json);
  EXPECT_EQ(json["completed"], 2);
  EXPECT_EQ(json["median_ttft_ms"], 750);
  EXPECT_EQ(json["p50_e2el_ms"], 2000);
  EXPECT_EQ(json["output_throughput"], 2.25);
  EXPECT_EQ(json["total_token_throughput"], (9 + 258) / 4.0);
  EXPECT_EQ(json["request_goodput"], 0.25);
  ASSERT_EQ(json["requests"].size(), 4u);
  EXPECT_EQ(json["requests"][1]["cached_tokens"], 128);
  EXPECT_EQ(json["requests"][2]["error"], "503 queue_full");
  EXPECT_EQ(json["requests"][3]["status"], "open");
  options.detailed = false;
  EXPECT_FALSE(nlohmann::json::parse(report().json).contains("requests"));
}

TEST_F(Report, OutputRateSpreadsTokensOverEvents) {
  const std::vector<double> rate = output_rate(outcome.records, 4, 1);
  EXPECT_THAT(rate, ElementsAre(4, 2, 1.5, 1.5));  // 2 tokens an event; 1.5 an event, the last one in the last bucket
}

}  // namespace
}  // namespace comet::loadgen
