// SPDX-License-Identifier: Apache-2.0
// Azure's and Mooncake's formats, good and bad lines, and the whole public files where they are.
#include "loadgen/trace.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "base/check.h"

namespace comet::loadgen {
namespace {

using testing::HasSubstr;

const std::string kHead = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n";

std::vector<Request> azure(const std::string& text, TraceOptions o = {}) {
  std::istringstream in(text);
  o.name = "t.csv";
  return parse_azure_trace(in, o);
}

std::vector<Request> mooncake(const std::string& text, TraceOptions o = {}) {
  std::istringstream in(text);
  o.name = "t.jsonl";
  return parse_mooncake_trace(in, o);
}

template <typename Parse>
std::string error_of(const Parse& parse) {
  try {
    parse();
  } catch (const InvalidInput& e) {
    return e.what();
  }
  return "";
}

std::string azure_error(const std::string& line) {
  return error_of([&] { azure(kHead + "2023-11-16 18:15:46.5,3,4\r\n" + line + "\n"); });
}

std::string mooncake_error(const std::string& line) {
  return error_of([&] {
    mooncake(R"({"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [0]})"
             "\n" +
             line + "\n");
  });
}

TEST(AzureTrace, KeepsTimesAndLengths) {
  const auto r = azure(
      kHead +
      "2023-11-16 23:59:59.7500000,374,44\r\n\r\n2023-11-17 00:00:01.2500000+00:00,396,109\r\n2023-11-17T00:01:00,5,1");
  ASSERT_EQ(r.size(), 3u);
  EXPECT_EQ(r[0].planned_s, 0);
  EXPECT_NEAR(r[1].planned_s, 1.5, 1e-6);
  EXPECT_NEAR(r[2].planned_s, 60.25, 1e-6);
  EXPECT_EQ(r[0].input_len(), 374);
  EXPECT_EQ(r[1].output_len, 109);
  EXPECT_NE(prompt_ids(r[0], 5000)[0], prompt_ids(r[1], 5000)[0]);
}

TEST(AzureTrace, SpeedDivisorAndNumber) {
  const std::string text = kHead + "2023-11-16 18:00:00.0,100,9\n2023-11-16 18:00:10.0,101,1\nnot read any more\n";
  const auto r = azure(text, {.speed = 4, .divisor = 10, .max_requests = 2});
  ASSERT_EQ(r.size(), 2u);
  EXPECT_NEAR(r[1].planned_s, 2.5, 1e-6);
  EXPECT_EQ(r[0].input_len(), 10);
  EXPECT_EQ(r[1].input_len(), 11);  // upwards
  EXPECT_EQ(r[0].output_len, 1);
}

TEST(AzureTrace, BadLinesAreNamed) {
  EXPECT_THAT(error_of([] { azure("a,b\n"); }), HasSubstr("t.csv:1: expected the head TIMESTAMP"));
  EXPECT_THAT(error_of([] { azure(""); }), HasSubstr("t.csv:1: expected the head"));
  EXPECT_THAT(error_of([] { azure(kHead); }), HasSubstr("no requests"));
  EXPECT_THAT(azure_error("2023-11-16 18:15:46.6,3"), HasSubstr("t.csv:3: expected three fields"));
  for (const char* time : {"2023-13-16 18:15:46.6", "2023-02-29 18:15:46.6", "2023-11-16 24:15:46", "2023-11-16 18:15",
                           "", "2023-11-16 18:15:46.", "2023-11-16 18:15:46.6x", "-023-11-16 18:15:46"})
    EXPECT_THAT(azure_error(std::string(time) + ",3,4"), HasSubstr("t.csv:3: expected a time")) << time;
  for (const char* lengths : {"0,4", "3,0", "-3,4", "3.5,4", "x,4", "3,4,5", "99999999999,4"})
    EXPECT_THAT(azure_error(std::string("2023-11-16 18:15:46.6,") + lengths), HasSubstr("t.csv:3: expected numbers"))
        << lengths;
}

TEST(MooncakeTrace, TheSameIdsGiveTheSameTokens) {
  const auto r = mooncake(R"({"timestamp": 0, "input_length": 1100, "output_length": 500, "hash_ids": [4, 9, 2]}
{"timestamp": 1500, "input_length": 1030, "output_length": 3, "hash_ids": [4, 9, 2]}
{"timestamp": 3000, "input_length": 600, "output_length": 3, "hash_ids": [9, 4]})",
                          {.divisor = 8, .seed = 5});
  ASSERT_EQ(r.size(), 3u);
  EXPECT_EQ(r[1].planned_s, 1.5);
  EXPECT_EQ(r[0].output_len, 63);
  EXPECT_EQ(r[1].output_len, 1);
  const auto a = prompt_ids(r[0], 8192), b = prompt_ids(r[1], 8192), c = prompt_ids(r[2], 8192);
  EXPECT_EQ(a.size(), 138u);
  EXPECT_EQ(b.size(), 129u);
  EXPECT_EQ(c.size(), 75u);
  EXPECT_TRUE(std::equal(b.begin(), b.end(), a.begin()));              // the same ids, cut earlier
  EXPECT_TRUE(std::equal(c.begin(), c.begin() + 64, a.begin() + 64));  // id 9
  EXPECT_TRUE(std::equal(c.begin() + 64, c.end(), a.begin()));         // id 4
  EXPECT_FALSE(std::equal(a.begin(), a.begin() + 64, a.begin() + 64));
}

TEST(MooncakeTrace, AFullLastBlockStaysFull) {
  for (const int divisor : {1, 2, 8, 512}) {
    const auto r = mooncake(R"({"timestamp": 0, "input_length": 1024, "output_length": 1, "hash_ids": [0, 1]})",
                            {.divisor = divisor});
    EXPECT_EQ(r[0].input_len(), 1024 / divisor);
    EXPECT_EQ(r[0].segments[1].length, 512 / divisor);
  }
  const auto r =
      mooncake(R"({"timestamp": 0, "input_length": 513, "output_length": 1, "hash_ids": [0, 1]})", {.divisor = 64});
  EXPECT_EQ(r[0].segments[1].length, 1);  // never empty
}

TEST(MooncakeTrace, UnorderedTimesAreSortedAndInfiniteSpeedHasNone) {
  const std::string text = R"({"timestamp": 900, "input_length": 1, "output_length": 1, "hash_ids": [0]}
{"timestamp": 400, "input_length": 2, "output_length": 1, "hash_ids": [0]})";
  const auto r = mooncake(text);
  EXPECT_EQ(r[0].input_len(), 2);
  EXPECT_EQ(r[0].planned_s, 0);
  EXPECT_EQ(r[1].planned_s, 0.5);
  EXPECT_EQ(mooncake(text, {.speed = INFINITY})[1].planned_s, 0);
}

TEST(MooncakeTrace, BadLinesAreNamed) {
  EXPECT_THAT(mooncake_error("[1]"), HasSubstr("t.jsonl:2: expected a JSON object, found \"[1]\""));
  EXPECT_THAT(mooncake_error("{\"timestamp\": "), HasSubstr("t.jsonl:2: expected a JSON object"));
  EXPECT_THAT(mooncake_error(R"({"input_length": 1, "output_length": 1, "hash_ids": [0]})"),
              HasSubstr(":2: expected \"timestamp\""));
  EXPECT_THAT(mooncake_error(R"({"timestamp": -1, "input_length": 1, "output_length": 1, "hash_ids": [0]})"),
              HasSubstr("\"timestamp\""));
  EXPECT_THAT(mooncake_error(R"({"timestamp": 0, "input_length": 0, "output_length": 1, "hash_ids": []})"),
              HasSubstr("\"input_length\""));
  EXPECT_THAT(mooncake_error(R"({"timestamp": 0, "input_length": 1.5, "output_length": 1, "hash_ids": [0]})"),
              HasSubstr("\"input_length\""));
  EXPECT_THAT(mooncake_error(R"({"timestamp": 0, "input_length": 1, "output_length": 0, "hash_ids": [0]})"),
              HasSubstr("\"output_length\""));
  EXPECT_THAT(mooncake_error(R"({"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": 0})"),
              HasSubstr("\"hash_ids\""));
  EXPECT_THAT(mooncake_error(R"({"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": [-4]})"),
              HasSubstr("\"hash_ids\""));
  EXPECT_THAT(mooncake_error(R"({"timestamp": 0, "input_length": 513, "output_length": 1, "hash_ids": [0]})"),
              HasSubstr("2 hash_ids for 513 tokens"));
  EXPECT_THAT(error_of([] { mooncake(""); }), HasSubstr("no requests"));
  EXPECT_THAT(error_of([] { mooncake("{}", {.divisor = 3}); }), HasSubstr("--length-divisor is 3"));
}

TEST(MooncakeTrace, RequestsThatDoNotFitAreLeftOutAndCounted) {
  const std::filesystem::path file = std::filesystem::path(testing::TempDir()) / "comet_trace_test.jsonl";
  std::ofstream(file) << R"({"timestamp": 0, "input_length": 100, "output_length": 28, "hash_ids": [0]}
{"timestamp": 1, "input_length": 100, "output_length": 29, "hash_ids": [0]})";
  api::BenchServeOptions o{.dataset = api::BenchDataset::trace_mooncake, .trace_file = file};
  const Workload w = make_workload(o, 128);
  EXPECT_EQ(w.requests.size(), 1u);
  EXPECT_EQ(w.num_too_long, 1);
  EXPECT_TRUE(w.is_scheduled);
  EXPECT_THAT(error_of([&] { make_workload(o, 64); }), HasSubstr("no request of the trace fits"));
  o.trace_speed = INFINITY;
  EXPECT_FALSE(make_workload(o, 0).is_scheduled);
  std::filesystem::remove(file);
}

// The public files, whole.
TEST(Trace, PublicTracesAreRead) {
  const char* folder = std::getenv("COMET_CONFORMANCE_DIR");
  if (folder == nullptr) GTEST_SKIP() << "COMET_CONFORMANCE_DIR is not set";
  const std::filesystem::path traces = std::filesystem::path(folder) / "data/traces";
  const auto a = read_azure_trace({.trace_file = traces / "AzureLLMInferenceTrace_conv.csv"});
  EXPECT_EQ(a.size(), 19366u);
  const auto m = read_mooncake_trace({.trace_file = traces / "mooncake_conversation.jsonl", .length_divisor = 8});
  EXPECT_EQ(m.size(), 12031u);
  EXPECT_EQ(m[0].input_len(), 845);  // 6758 / 8, upwards
  EXPECT_EQ(m.back().planned_s, 3536.999);
}

}  // namespace
}  // namespace comet::loadgen
