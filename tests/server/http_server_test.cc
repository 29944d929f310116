// SPDX-License-Identifier: Apache-2.0
// What needs a server in this process: a model that takes its time to load or cannot be, an engine that dies.
#include "server/http_server.h"

#include <gmock/gmock.h>

#include <csignal>
#include <filesystem>
#include <future>
#include <thread>

#include "base/check.h"
#include "failing_backend.h"
#include "fast_backend.h"
#include "http_client.h"

namespace comet::server {
namespace {

using testing::HasSubstr;

ServerOptions test_options() {
  ServerOptions o;
  o.port = 0;
  o.log_file = "/dev/null";
  return o;
}

struct Loaded {
  std::filesystem::path folder = std::filesystem::path(COMET_SOURCE_DIR) / "models/gutenberg-15m";
  std::unique_ptr<FailingBackend> backend = std::make_unique<FailingBackend>(fast_backend(1));
  Tokenizer tokenizer = Tokenizer::load(folder);
  Model model{*backend, Checkpoint::open(folder), {.max_positions = 1024, .max_batch_tokens = 64, .max_logit_rows = 8}};
  Engine engine{model, {.max_batch_tokens = 64, .max_batch_seqs = 8}};

  ServedModel served() {
    return {.engine = &engine,
            .tokenizer = &tokenizer,
            .vocab_size = model.config().vocab_size,
            .max_sequences = 8,
            .names = {"m"},
            .defaults = {}};
  }
};

std::string ask(const HttpServer& server, const std::string& request) {
  HttpClient client(server.port(), request);
  return client.read_all();
}

TEST(HttpServer, Says503WhileLoadingAndEndsOnASignal) {
  const auto loaded = std::make_unique<Loaded>();
  HttpServer server(test_options(), "test");
  std::promise<void> may_load;
  std::thread serving([&] {
    server.serve([&](const std::atomic<bool>&) {
      may_load.get_future().wait();
      return loaded->served();
    });
  });
  for (const char* path : {"/health", "/ready", "/metrics", "/v1/models"})
    EXPECT_THAT(ask(server, HttpClient::get(path)), HasSubstr("HTTP/1.1 503")) << path;
  EXPECT_THAT(ask(server, HttpClient::get("/version")), HasSubstr("HTTP/1.1 200"));
  HttpClient early(server.port(), HttpClient::complete(R"({"prompt":"x"})"));
  EXPECT_THAT(early.read_until("}}"), HasSubstr("\"loading\""));
  may_load.set_value();
  while (server.service().state() == Service::State::loading) std::this_thread::yield();
  for (const char* path : {"/health", "/ready", "/metrics", "/v1/models"})
    EXPECT_THAT(ask(server, HttpClient::get(path)), HasSubstr("HTTP/1.1 200")) << path;
  std::raise(SIGTERM);
  serving.join();
}

TEST(HttpServer, ASignalStopsLoading) {
  HttpServer server(test_options(), "test");
  std::thread serving([&] {
    server.serve([&](const std::atomic<bool>& is_stopping) -> ServedModel {
      while (!is_stopping) std::this_thread::yield();
      throw Error("stopped");
    });
  });
  std::raise(SIGTERM);
  serving.join();
}

TEST(HttpServer, WhatLoadingThrowsComesOut) {
  HttpServer server(test_options(), "test");
  EXPECT_THROW(server.serve([](const std::atomic<bool>&) -> ServedModel { throw InvalidInput("no model"); }),
               InvalidInput);
}

// What fails within a step, or when an event is told, ends the engine: every request gets its one reply, then the
// server ends with the reason.
class EngineFailure : public testing::TestWithParam<std::string> {};

TEST_P(EngineFailure, EndsRequestsAndServer) {
  Loaded loaded;
  HttpServer server(test_options(), "test");
  std::string failure;
  std::thread serving([&] {
    try {
      server.serve([&](const std::atomic<bool>&) { return loaded.served(); });
    } catch (const std::exception& e) {
      failure = e.what();
    }
  });
  while (server.service().state() == Service::State::loading) std::this_thread::yield();
  const std::string body = R"({"prompt":"It was","max_tokens":900,"ignore_eos":true,"n":2,"stream":)";
  HttpClient streaming(server.port(), HttpClient::complete(body + "true}"));
  HttpClient whole(server.port(), HttpClient::complete(body + "false}"));
  EXPECT_THAT(streaming.read_until("data: {"), HasSubstr("data: {"));
  while (server.service().num_open() < 4) std::this_thread::yield();

  if (GetParam() == "sink") {
    auto has_thrown = std::make_shared<bool>(false);
    loaded.engine.submit({.prompt = {1, 2, 3}, .params = {.max_tokens = 5}, .seed = 0},
                         [has_thrown](const SequenceEvent&) {
                           if (!std::exchange(*has_thrown, true)) throw std::runtime_error("the device fell off");
                         });
  } else {
    loaded.backend->fail_at(GetParam());
  }
  const std::string events = streaming.read_all();
  EXPECT_THAT(events, HasSubstr("the device fell off"));
  EXPECT_THAT(events, HasSubstr("data: [DONE]"));
  EXPECT_EQ(events.find("[DONE]"), events.rfind("[DONE]"));
  const std::string answer = whole.read_all();
  EXPECT_THAT(answer, HasSubstr("HTTP/1.1 500"));
  EXPECT_EQ(answer.find("HTTP/1.1"), answer.rfind("HTTP/1.1"));
  EXPECT_THAT(answer, HasSubstr("generation_failed"));
  serving.join();
  EXPECT_THAT(failure, HasSubstr("the device fell off"));
  EXPECT_EQ(server.service().num_open(), 0);
}

std::vector<std::string> places() {
  std::vector<std::string> places = FailingBackend::calls();
  places.push_back("sink");
  return places;
}

INSTANTIATE_TEST_SUITE_P(Calls, EngineFailure, testing::ValuesIn(places()), [](const auto& p) { return p.param; });

}  // namespace
}  // namespace comet::server
