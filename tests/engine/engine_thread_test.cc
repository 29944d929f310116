// SPDX-License-Identifier: Apache-2.0
// Every accepted request gets exactly one last event: when it ends, is cancelled, when the model throws, at
// destruction.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <random>
#include <thread>

#include "engine/engine.h"
#include "failing_backend.h"

namespace comet {
namespace {

using testing::HasSubstr;

// Counts what one request's sink saw.
struct Witness {
  std::atomic<int> num_tokens{0}, num_last{0}, num_after_last{0};
  mutable std::mutex mutex;
  SequenceEvent last;

  void see(const SequenceEvent& event) {
    if (num_last > 0) ++num_after_last;
    if (event.token) ++num_tokens;
    if (event.finish == FinishReason::none) return;
    const std::lock_guard lock(mutex);
    last = event;
    ++num_last;
  }
};

struct Tiny {
  explicit Tiny(int fail_at = 0) {
    if (fail_at > 0) backend.fail_at("attention", fail_at);
  }
  FailingBackend backend{ref_backend()};
  Model model{backend,
              Checkpoint::open(std::filesystem::path(COMET_SOURCE_DIR) / "tests/goldens/models/llama-plain"),
              {.max_positions = 64, .max_batch_tokens = 16, .max_logit_rows = 4}};
  EngineOptions options{.max_batch_tokens = 16, .max_batch_seqs = 4};
};

SequenceSpec spec(int prompt, int output) {
  SequenceSpec s{.prompt = std::vector<int32_t>(static_cast<size_t>(prompt), 3)};
  s.params.max_tokens = output;
  s.params.ignore_eos = true;
  return s;
}

void wait_for(const Witness& w) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  while (w.num_last == 0 && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const std::lock_guard lock(w.mutex);  // see() is through
  ASSERT_EQ(w.num_last, 1);
}

void expect_one_last_event(const std::vector<std::shared_ptr<Witness>>& witnesses) {
  for (const auto& w : witnesses) {
    EXPECT_EQ(w->num_last, 1);
    EXPECT_EQ(w->num_after_last, 0);
  }
}

TEST(EngineThread, EveryRequestEnds) {
  std::vector<std::shared_ptr<Witness>> witnesses;
  Tiny s;
  Engine engine(s.model, s.options);
  for (int i = 0; i < 10; ++i) {
    auto w = witnesses.emplace_back(std::make_shared<Witness>());
    engine.submit(spec(1 + i, 1 + i % 4), [w](const SequenceEvent& e) { w->see(e); });
  }
  for (int i = 0; i < 10; ++i) {
    wait_for(*witnesses[static_cast<size_t>(i)]);
    const Witness& w = *witnesses[static_cast<size_t>(i)];
    EXPECT_EQ(w.last.finish, FinishReason::length);
    EXPECT_EQ(w.num_tokens, 1 + i % 4);
    EXPECT_EQ(w.last.num_prompt, 1 + i);
    EXPECT_EQ(w.last.num_output, 1 + i % 4);
  }
  expect_one_last_event(witnesses);
  EXPECT_EQ(engine.failure(), "");
}

TEST(EngineThread, RefusalsAreEventsToo) {
  Tiny s;
  Engine engine(s.model, s.options);
  const std::pair<SequenceSpec, std::string> bad[] = {{spec(0, 1), "no tokens"},
                                                      {spec(64, 1), "room for 64"},
                                                      {spec(60, 10), "max_tokens is 10"},
                                                      {[] {
                                                         auto b = spec(2, 1);
                                                         b.prompt[1] = 1 << 20;
                                                         return b;
                                                       }(),
                                                       "vocabulary"},
                                                      {[] {
                                                         auto b = spec(2, 1);
                                                         b.params.top_p = 2.0;
                                                         return b;
                                                       }(),
                                                       "top_p"}};
  for (const auto& [request, message] : bad) {
    Witness w;
    engine.submit(request, [&](const SequenceEvent& e) { w.see(e); });
    wait_for(w);
    EXPECT_EQ(w.last.finish, FinishReason::error);
    EXPECT_THAT(w.last.error, HasSubstr(message));
  }
  Witness good;
  engine.submit(spec(2, 2), [&](const SequenceEvent& e) { good.see(e); });
  wait_for(good);
  EXPECT_EQ(good.last.finish, FinishReason::length);
}

TEST(EngineThread, AModelThatThrowsEndsEverybody) {
  for (const int fail_at : {1, 2, 7, 20}) {
    std::vector<std::shared_ptr<Witness>> witnesses;
    Tiny s(fail_at);
    Engine engine(s.model, s.options);
    for (int i = 0; i < 8; ++i) {
      auto w = witnesses.emplace_back(std::make_shared<Witness>());
      engine.submit(spec(3, 40), [w](const SequenceEvent& e) { w->see(e); });
    }
    for (const auto& w : witnesses) {
      wait_for(*w);
      EXPECT_EQ(w->last.finish, FinishReason::error);
      EXPECT_THAT(w->last.error, HasSubstr("the device fell off"));
    }
    EXPECT_THAT(engine.failure(), HasSubstr("the device fell off"));
    auto late = witnesses.emplace_back(std::make_shared<Witness>());
    engine.cancel(engine.submit(spec(3, 4), [late](const SequenceEvent& e) { late->see(e); }));
    wait_for(*late);
    EXPECT_THAT(late->last.error, HasSubstr("the device fell off"));
    expect_one_last_event(witnesses);
  }
}

TEST(EngineThread, DestructionEndsEverybody) {
  for (int round = 0; round < 5; ++round) {
    std::vector<std::shared_ptr<Witness>> witnesses;
    Tiny s;
    {
      Engine engine(s.model, s.options);
      for (int i = 0; i < 8; ++i) {
        auto w = witnesses.emplace_back(std::make_shared<Witness>());
        engine.submit(spec(3, 50), [w](const SequenceEvent& e) { w->see(e); });
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(3 * round));
    }
    expect_one_last_event(witnesses);
  }
}

TEST(EngineThread, CancelAtRandomMoments) {
  std::mt19937 random(41);
  std::vector<std::shared_ptr<Witness>> witnesses;
  Tiny s;
  {
    Engine engine(s.model, s.options);
    auto client = [&](uint32_t seed) {
      std::mt19937 own(seed);
      for (int i = 0; i < 12; ++i) {
        auto w = std::make_shared<Witness>();
        const Engine::RequestId id =
            engine.submit(spec(1 + static_cast<int>(own() % 8), 1 + static_cast<int>(own() % 30)),
                          [w](const SequenceEvent& e) { w->see(e); });
        std::this_thread::sleep_for(std::chrono::microseconds(own() % 4000));
        if (own() % 4 != 0) engine.cancel(id);
        if (own() % 4 == 0) engine.cancel(id);  // twice
        if (own() % 8 == 0) engine.cancel(id + 100000);
        wait_for(*w);
        EXPECT_THAT(w->last.finish, testing::AnyOf(FinishReason::length, FinishReason::cancelled));
        static std::mutex mutex;
        const std::lock_guard lock(mutex);
        witnesses.push_back(w);
      }
    };
    std::thread a(client, random()), b(client, random()), c(client, random());
    a.join();
    b.join();
    c.join();
    EXPECT_EQ(engine.failure(), "");
  }
  EXPECT_EQ(witnesses.size(), 36u);
  expect_one_last_event(witnesses);
}

}  // namespace
}  // namespace comet
