// SPDX-License-Identifier: Apache-2.0
// The metrics text: Prometheus' format, vLLM's names, sums that agree.
#include "server/metrics.h"

#include <gmock/gmock.h>

#include <regex>
#include <sstream>

namespace comet::server {
namespace {

EngineStats stats() {
  EngineStats s{.num_waiting = 2, .num_running = 3, .num_kv_blocks = 8, .num_kv_blocks_used = 2};
  s.num_steps = 5;
  s.num_step_tokens = 70;
  s.steps_by_size[0] = 4;
  s.steps_by_size[7] = 1;
  return s;
}

// name{labels} -> value; fails for lines that are not of the format, and families declared twice or not at all.
std::map<std::string, double> read(const std::string& text) {
  static const std::regex sample(R"re(([a-zA-Z_:][a-zA-Z0-9_:]*)(\{([a-z_]+="(\\.|[^"\\])*",?)*\}) (\S+))re");
  static const std::regex comment(R"(# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+))");
  std::map<std::string, double> values;
  std::map<std::string, std::string> types;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::smatch m;
    if (line.starts_with("#")) {
      EXPECT_TRUE(std::regex_match(line, m, comment)) << line;
      if (m[1] == "TYPE") {
        EXPECT_TRUE(types.emplace(m[2], m[3]).second) << line;
        const bool is_known = m[3] == "counter" || m[3] == "gauge" || m[3] == "histogram";
        EXPECT_TRUE(is_known) << line;
      }
      continue;
    }
    EXPECT_TRUE(std::regex_match(line, m, sample)) << line;
    EXPECT_TRUE(values.emplace(m[1].str() + m[2].str(), std::stod(m[5])).second) << line;
    std::string family = m[1];
    if (!types.contains(family)) family = family.substr(0, family.rfind('_'));
    EXPECT_TRUE(types.contains(family)) << line;
    EXPECT_TRUE(types[family] != "counter" || family.ends_with("_total")) << line;
  }
  EXPECT_TRUE(text.ends_with("\n"));
  return values;
}

TEST(Metrics, EmptyTextIsValid) {
  const Metrics metrics("comet", "m");
  const auto values = read(metrics.text({}, 0));
  EXPECT_EQ(values.at("comet:num_requests_running{model_name=\"m\"}"), 0);
  EXPECT_EQ(values.at("comet:kv_cache_usage_perc{model_name=\"m\"}"), 0);
}

TEST(Metrics, HasTheNamesOfVllm) {
  Metrics metrics("vllm", "m");
  metrics.finished({.reason = "stop"});
  const std::string text = metrics.text(stats(), 5);
  read(text);
  for (const char* stem :
       {"num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prefix_cache_queries_total",
        "prefix_cache_hits_total", "num_preemptions_total", "prompt_tokens_total", "generation_tokens_total",
        "request_success_total", "time_to_first_token_seconds", "inter_token_latency_seconds",
        "e2e_request_latency_seconds", "request_queue_time_seconds", "request_prompt_tokens",
        "request_generation_tokens", "iteration_tokens_total"})
    EXPECT_THAT(text, testing::HasSubstr("# TYPE vllm:" + std::string(stem) + " "));
}

TEST(Metrics, CountsWhatHappened) {
  Metrics metrics("comet", "m");
  metrics.first_tokens(0.003, 2);
  metrics.more_tokens(0.4, 4);
  metrics.more_tokens(1.0, 0);
  metrics.finished({.reason = "stop", .num_prompt = 10, .num_output = 5, .queued_s = 0.5, .seconds = 2});
  metrics.finished({.reason = "cancelled", .num_prompt = 20, .num_output = 1, .queued_s = 0, .seconds = 1000});
  metrics.answered("/v1/completions", 200);
  metrics.answered("/v1/completions", 200);
  metrics.answered("/v1/completions", 400);
  const auto values = read(metrics.text(stats(), 5));
  const auto at = [&](const std::string& stem, const std::string& more = "") {
    return values.at("comet:" + stem + "{model_name=\"m\"" + more + "}");
  };
  EXPECT_EQ(at("num_requests_running"), 3);
  EXPECT_EQ(at("num_requests_waiting"), 2);
  EXPECT_EQ(at("num_requests_open"), 5);
  EXPECT_EQ(at("kv_cache_usage_perc"), 0.25);
  EXPECT_EQ(at("prompt_tokens_total"), 30);
  EXPECT_EQ(at("generation_tokens_total"), 6);
  EXPECT_EQ(at("request_success_total", ",finished_reason=\"stop\""), 1);
  EXPECT_EQ(at("request_success_total", ",finished_reason=\"cancelled\""), 1);
  EXPECT_EQ(at("http_responses_total", ",route=\"/v1/completions\",status=\"200\""), 2);
  EXPECT_EQ(at("time_to_first_token_seconds_bucket", ",le=\"0.001\""), 0);
  EXPECT_EQ(at("time_to_first_token_seconds_bucket", ",le=\"0.005\""), 1);
  EXPECT_EQ(at("inter_token_latency_seconds_count"), 4);
  EXPECT_DOUBLE_EQ(at("inter_token_latency_seconds_sum"), 0.4);
  EXPECT_EQ(at("e2e_request_latency_seconds_bucket", ",le=\"480\""), 1);
  EXPECT_EQ(at("e2e_request_latency_seconds_bucket", ",le=\"+Inf\""), 2);
  EXPECT_DOUBLE_EQ(at("e2e_request_latency_seconds_sum"), 1002);
  EXPECT_EQ(at("iteration_tokens_total_bucket", ",le=\"1\""), 4);
  EXPECT_EQ(at("iteration_tokens_total_bucket", ",le=\"+Inf\""), 5);
  EXPECT_EQ(at("iteration_tokens_total_sum"), 70);
}

TEST(Metrics, BucketsNeverFall) {
  Histogram h({1, 2, 3});
  for (const double v : {0.5, 1.0, 1.5, 3.0, 99.0}) h.add(v);
  std::string text;
  h.write(text, "h", "a=\"b\"");
  EXPECT_EQ(text,
            "h_bucket{a=\"b\",le=\"1\"} 2\nh_bucket{a=\"b\",le=\"2\"} 3\nh_bucket{a=\"b\",le=\"3\"} 4\n"
            "h_bucket{a=\"b\",le=\"+Inf\"} 5\nh_sum{a=\"b\"} 105\nh_count{a=\"b\"} 5\n");
}

TEST(Metrics, LabelsAreEscaped) {
  const Metrics metrics("comet", "a\"b\\c\nd");
  const std::string text = metrics.text({}, 0);
  read(text);
  EXPECT_THAT(text, testing::HasSubstr(R"(model_name="a\"b\\c\nd")"));
}

}  // namespace
}  // namespace comet::server
