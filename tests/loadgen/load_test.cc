// SPDX-License-Identifier: Apache-2.0
// The client against servers that answer well, badly, or not.
#include "loadgen/load.h"

#include <gmock/gmock.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "fake_server.h"
#include "loadgen/probe.h"

namespace comet::loadgen {
namespace {

using testing::HasSubstr;
using Reply = FakeServer::Reply;
using Status = RequestRecord::Status;

Reply good(int = 0, const std::string& = "") {
  return {.pieces = {kStreamHead, chunk(text_event("a")), chunk(text_event("b")), chunk(text_event("c", "\"length\"")),
                     chunk(kUsageEvent), chunk("data: [DONE]\n\n"), "0\r\n\r\n"}};
}

std::vector<Request> requests(int n, int output_len = 3) {
  std::vector<Request> out;
  for (int i = 0; i < n; ++i)
    out.push_back({.planned_s = 0.0, .output_len = output_len, .segments = {{static_cast<uint64_t>(i), 7}}});
  return out;
}

LoadOutcome run(const FakeServer& server, int n, LoadOptions o = {.concurrency = 1}, api::BenchServeOptions b = {}) {
  const Target target(b, parse_base_url(server.url()), "m", 256);
  return run_load(target, requests(n), o);
}

// The record of one request that must fail.
RequestRecord failure_of(const FakeServer::Script& script, double timeout_s = 10) {
  FakeServer server(script);
  const LoadOutcome outcome = run(server, 1, {.concurrency = 1, .timeout_s = timeout_s});
  EXPECT_EQ(outcome.records[0].status, Status::failed);
  return outcome.records[0];
}

TEST(Load, AStreamIsReadAndItsConnectionUsedAgain) {
  FakeServer server(good);
  const LoadOutcome outcome = run(server, 20, {.concurrency = 2});
  for (const RequestRecord& r : outcome.records) {
    EXPECT_EQ(r.status, Status::completed);
    EXPECT_EQ(r.event_s.size(), 3u);
    EXPECT_EQ(r.prompt_tokens, 7);
    EXPECT_EQ(r.output_tokens, 3);
    EXPECT_EQ(r.cached_tokens, 2);
    EXPECT_LE(r.start_s, r.event_s.front());
    EXPECT_EQ(r.end_s, r.event_s.back());
  }
  EXPECT_EQ(server.num_connections(), 2);
  EXPECT_FALSE(outcome.is_interrupted);
  EXPECT_GT(outcome.cpu_s, 0);
}

TEST(Load, EventsHaveTheTimesAtWhichTheyCame) {
  FakeServer server([](int, const std::string&) {
    Reply r = good();
    r.pause_ms = 100;
    return r;
  });
  const RequestRecord r = run(server, 1).records[0];
  ASSERT_EQ(r.event_s.size(), 3u);
  EXPECT_GE(r.event_s[0], 0.2);
  EXPECT_LT(r.event_s[0], 0.3 + 0.2);
  for (size_t i = 1; i < 3; ++i) EXPECT_GE(r.event_s[i] - r.event_s[i - 1], 0.05);
}

TEST(Load, ConcurrencyIsTheLimitAndIsReached) {
  std::atomic<int> open{0}, most{0};
  FakeServer server([&](int, const std::string&) {
    const int now = ++open;
    for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    --open;
    return good();
  });
  run(server, 20, {.concurrency = 4});
  EXPECT_EQ(most, 4);
}

TEST(Load, RequestsHaveWhatWasAskedFor) {
  std::mutex mutex;
  std::string seen;
  FakeServer server([&](int, const std::string& request) {
    std::lock_guard lock(mutex);
    seen = request;
    return good();
  });
  run(server, 1, {.concurrency = 1}, {.api_key = "secret", .extra_body = R"({"priority": 3})"});
  EXPECT_THAT(seen, HasSubstr("POST /v1/completions HTTP/1.1\r\n"));
  EXPECT_THAT(seen, HasSubstr("Authorization: Bearer secret\r\n"));
  auto body = nlohmann::json::parse(seen.substr(seen.find("\r\n\r\n") + 4));
  EXPECT_EQ(body["prompt"].size(), 7u);
  EXPECT_EQ(body["max_tokens"], 3);
  EXPECT_EQ(body["priority"], 3);
  EXPECT_EQ(body["ignore_eos"], true);
  EXPECT_EQ(body["stream_options"]["include_usage"], true);
  run(server, 1, {.concurrency = 1}, {.endpoint = api::BenchEndpoint::chat, .ignore_eos = false});
  EXPECT_THAT(seen, HasSubstr("POST /v1/chat/completions HTTP/1.1\r\n"));
  body = nlohmann::json::parse(seen.substr(seen.find("\r\n\r\n") + 4));
  EXPECT_EQ(body["messages"][0]["role"], "user");
  EXPECT_FALSE(body.contains("ignore_eos"));
  EXPECT_FALSE(body.contains("prompt"));
}

TEST(Load, TheScheduleIsKeptWhateverTheServerDoes) {
  FakeServer server([](int, const std::string&) {
    Reply r = good();
    r.hangs_ms = 1500;
    return r;
  });
  std::vector<Request> all = requests(10);
  for (size_t i = 0; i < all.size(); ++i) all[i].planned_s = 0.02 * static_cast<double>(i);
  const Target target({}, parse_base_url(server.url()), "m", 256);
  const LoadOutcome outcome = run_load(target, all, {.is_scheduled = true});
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_GE(outcome.records[i].start_s, all[i].planned_s);
    EXPECT_LT(outcome.records[i].start_s, 1.5);  // none waited for an answer
    EXPECT_GE(outcome.records[i].ttft_s(), 1.49);
  }
  const LoadOutcome limited = run_load(target, all, {.concurrency = 5, .is_scheduled = true});
  EXPECT_GE(limited.records[9].start_s, 1.5);  // the limit holds it back
}

TEST(Load, AnIdleConnectionThatWasClosedIsReplaced) {
  FakeServer server([](int, const std::string&) {
    Reply r = good();
    r.closes = true;
    return r;
  });
  const LoadOutcome outcome = run(server, 5);
  for (const RequestRecord& r : outcome.records) EXPECT_EQ(r.status, Status::completed) << r.failure;
  EXPECT_EQ(server.num_connections(), 5);
  EXPECT_EQ(server.num_requests(), 5);
}

TEST(Load, AStreamThatIsCutOffFails) {
  const auto script = [](int, const std::string&) -> Reply {
    return {.pieces = {kStreamHead, chunk(text_event("a"))}, .closes = true};
  };
  const RequestRecord r = failure_of(script);
  EXPECT_EQ(r.failure, "cut off");
  EXPECT_THAT(r.message, HasSubstr("after 1 events"));
}

TEST(Load, AStreamThatEndsWithoutAnEndFails) {
  const auto script = [](int, const std::string&) -> Reply {
    return {.pieces = {kStreamHead, chunk(text_event("a")), "0\r\n\r\n"}};
  };
  EXPECT_EQ(failure_of(script).failure, "cut off");
}

TEST(Load, AnErrorEventFails) {
  const auto script = [](int, const std::string&) -> Reply {
    const std::string event = "data: {\"error\": {\"message\": \"gone\", \"code\": \"engine_failed\"}}\n\n";
    return {.pieces = {kStreamHead, chunk(text_event("a")), chunk(event), chunk("data: [DONE]\n\n"), "0\r\n\r\n"}};
  };
  const RequestRecord r = failure_of(script);
  EXPECT_EQ(r.failure, "event engine_failed");
  EXPECT_EQ(r.message, "gone");
}

TEST(Load, StatusesAreCountedByKind) {
  const auto script = [](int, const std::string&) -> Reply {
    return {.pieces = {with_length(503, R"({"error": {"message": "later", "type": "x", "code": "queue_full"}})")}};
  };
  const RequestRecord r = failure_of(script);
  EXPECT_EQ(r.failure, "503 queue_full");
  EXPECT_EQ(r.message, "later");
  EXPECT_EQ(failure_of([](int, const std::string&) -> Reply { return {.pieces = {with_length(404, "?")}}; }).failure,
            "404");
}

TEST(Load, WhatIsNoEventStreamFails) {
  EXPECT_EQ(failure_of([](int, const std::string&) -> Reply { return {.pieces = {with_length(200, "{}")}}; }).failure,
            "no event stream");
  EXPECT_EQ(failure_of([](int, const std::string&) -> Reply {
              return {.pieces = {"hello\r\n\r\n"}, .closes = true};
            }).failure,
            "no answer");
  EXPECT_EQ(failure_of([](int, const std::string&) -> Reply { return {.pieces = {}, .closes = true}; }).failure,
            "no answer");
  const auto script = [](int, const std::string&) -> Reply {
    return {.pieces = {kStreamHead, chunk("data: {oh\n\n"), "0\r\n\r\n"}};
  };
  EXPECT_EQ(failure_of(script).failure, "bad event");
}

TEST(Load, AServerThatSaysNothingTimesOut) {
  const auto script = [](int, const std::string&) -> Reply { return {.pieces = {kStreamHead}}; };
  const RequestRecord r = failure_of(script, 0.2);
  EXPECT_EQ(r.failure, "timed out");
  EXPECT_GE(r.end_s, 0.2);
  EXPECT_LT(r.end_s, 5);
}

TEST(Load, NobodyThereFailsEveryRequest) {
  std::string url;
  {
    FakeServer gone(good);
    url = gone.url();
  }
  const Target target({}, parse_base_url(url), "m", 256);
  const LoadOutcome outcome = run_load(target, requests(3), {.concurrency = 1});
  for (const RequestRecord& r : outcome.records) EXPECT_EQ(r.failure, "connect: Connection refused");
}

TEST(Load, WithoutUsageEventsAreCounted) {
  FakeServer server([](int, const std::string&) -> Reply {
    return {.pieces = {kStreamHead, chunk(text_event("a")), chunk(text_event("b")), chunk("data: [DONE]\n\n"),
                       "0\r\n\r\n"}};
  });
  const RequestRecord r = run(server, 1).records[0];
  EXPECT_EQ(r.status, Status::completed);
  EXPECT_FALSE(r.has_usage);
  EXPECT_EQ(r.output_tokens, 2);
}

TEST(Load, ASignalEndsItWithWhatIsDone) {
  std::atomic<int> answered{0};
  FakeServer server([&](int n, const std::string&) -> Reply {
    if (n < 3) return ++answered, good();
    std::raise(SIGINT);
    return {.pieces = {kStreamHead}};
  });
  const LoadOutcome outcome = run(server, 10);
  EXPECT_TRUE(outcome.is_interrupted);
  EXPECT_EQ(answered, 3);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(outcome.records[i].status, Status::completed);
  EXPECT_EQ(outcome.records[3].status, Status::open);
  EXPECT_EQ(outcome.records[9].status, Status::unsent);
}

TEST(Target, BaseUrls) {
  const auto text = [](const char* url) { return parse_base_url(url).text(); };
  EXPECT_EQ(text("http://127.0.0.1:8000"), "http://127.0.0.1:8000");
  EXPECT_EQ(text("http://h:8000/v1/"), "http://h:8000");
  EXPECT_EQ(text("http://h/a/v1"), "http://h:80/a");
  EXPECT_EQ(text("http://[::1]:9/"), "http://[::1]:9");
  for (const char* bad : {"127.0.0.1:8000", "http://", "http://:80", "http://h:", "http://h:x", "http://h:70000",
                          "http://h :1", "http://h:1/\r\nX: y"})
    EXPECT_THROW(parse_base_url(bad), InvalidInput) << bad;
  EXPECT_THROW(parse_base_url("https://h"), Unsupported);
}

TEST(Target, RefusesOptionsThatBreakRequests) {
  const BaseUrl url = parse_base_url("http://h");
  EXPECT_THROW(Target({.api_key = "a\r\nX: y"}, url, "m", 256), InvalidInput);
  EXPECT_THROW(Target({.extra_body = "[1]"}, url, "m", 256), InvalidInput);
  EXPECT_THROW(Target({.extra_body = "{"}, url, "m", 256), InvalidInput);
  EXPECT_THROW(Target({.extra_body = R"({"prompt": "x"})"}, url, "m", 256), InvalidInput);
}

std::string probe_error(const std::string& url, double wait_s = 0) {
  try {
    probe(parse_base_url(url), {.wait_s = wait_s});
  } catch (const InvalidInput& e) {
    return e.what();
  }
  return "";
}

TEST(Probe, AsksModels) {
  const std::string body = R"({"data": [{"id": "a", "max_model_len": 1024}, {"id": "b", "meta": {"n_vocab": 999}}]})";
  EXPECT_EQ(parse_models(body, "").model, "a");
  EXPECT_EQ(parse_models(body, "").context, 1024);
  EXPECT_EQ(parse_models(body, "b").vocab_size, 999);
  EXPECT_EQ(parse_models(R"({"data": [{"id": "a", "vocab_size": 5}]})", "a").vocab_size, 5);
  EXPECT_THROW(parse_models(body, "c"), InvalidInput);
  EXPECT_THROW(parse_models("{}", ""), InvalidInput);
  EXPECT_THROW(parse_models("hello", ""), InvalidInput);
}

TEST(Probe, SaysWhatIsWrong) {
  std::string url;
  {
    FakeServer server([](int, const std::string& request) -> Reply {
      if (request.starts_with("GET /a/")) return {.pieces = {with_length(401, R"({"error": {"message": "no key"}})")}};
      if (request.starts_with("GET /b/")) return {.pieces = {with_length(404, "{}")}};
      if (request.starts_with("GET /c/")) return {.pieces = {with_length(503, R"({"error": {"message": "loading"}})")}};
      return {.pieces = {"220 mail\r\n\r\n"}, .closes = true};
    });
    url = server.url();
    EXPECT_THAT(probe_error(url + "/a"), HasSubstr("401: no key; give its key with COMET_API_KEY"));
    EXPECT_THAT(probe_error(url + "/b"), HasSubstr("has no /v1/models (404)"));
    EXPECT_THAT(probe_error(url + "/c"), HasSubstr("is not ready: 503 loading"));
    EXPECT_THAT(probe_error(url), HasSubstr("does not speak HTTP"));
  }
  EXPECT_THAT(probe_error(url), HasSubstr("cannot reach " + url + ": Connection refused"));
  EXPECT_THAT(probe_error("http://no-such-host.invalid"), HasSubstr("cannot reach http://no-such-host.invalid:80"));
}

TEST(Probe, WaitsForAServerThatLoads) {
  FakeServer server([](int n, const std::string&) -> Reply {
    if (n < 2) return {.pieces = {with_length(503, "{}")}};
    return {.pieces = {with_length(200, R"({"data": [{"id": "m"}]})")}};
  });
  EXPECT_EQ(probe(parse_base_url(server.url()), {.wait_s = 20}).model, "m");
  EXPECT_EQ(server.num_requests(), 3);
}

}  // namespace
}  // namespace comet::loadgen
