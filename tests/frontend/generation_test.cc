// SPDX-License-Identifier: Apache-2.0
// Requests on the bundled model: text, stops, finish reasons, choices, cancelling, and what is refused.
#include "frontend/generation.h"

#include <gmock/gmock.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "fast_backend.h"

namespace comet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Loaded once; each test makes its requests on the same engine.
struct Loaded {
  std::filesystem::path folder = std::filesystem::path(COMET_SOURCE_DIR) / "models/gutenberg-15m";
  std::unique_ptr<Backend> backend = fast_backend(1);
  Tokenizer tokenizer = Tokenizer::load(folder);
  Model model{*backend, Checkpoint::open(folder), {.max_positions = 128, .max_batch_tokens = 64, .max_logit_rows = 16}};
  Engine engine{model, {.max_batch_tokens = 64, .max_batch_seqs = 8}};
  Frontend frontend{engine, tokenizer, nullptr, model.config().vocab_size};
};

Loaded& loaded() {
  static Loaded instance;
  return instance;
}

GenerationRequest greedy(int max_tokens) {
  GenerationRequest r;
  r.prompt = std::string("It was a dark night, and the old man");
  r.sampling.temperature = 0.0;
  r.sampling.max_tokens = max_tokens;
  r.sampling.ignore_eos = true;
  return r;
}

struct Finished {
  std::string text, error;
  FinishReason reason = FinishReason::none;
  std::vector<int32_t> ids;
  std::vector<LogprobEntry> logprobs;
  int num_prompt = 0, num_output = 0, num_cached = 0, num_last = 0;
};

std::vector<Finished> run(const GenerationRequest& request) {
  const std::unique_ptr<Generation> g = loaded().frontend.submit(request);
  std::vector<Finished> out(static_cast<size_t>(request.sampling.n));
  while (const std::optional<TextDelta> d = g->next()) {
    Finished& f = out[static_cast<size_t>(d->choice)];
    EXPECT_EQ(f.num_last, 0) << "a delta after the last";
    f.text += d->text;
    f.logprobs.insert(f.logprobs.end(), d->logprobs.begin(), d->logprobs.end());
    if (d->finish == FinishReason::none) continue;
    ++f.num_last;
    f.reason = d->finish;
    f.error = d->error;
    f.num_prompt = d->num_prompt;
    f.num_output = d->num_output;
    f.num_cached = d->num_cached;
  }
  for (size_t i = 0; i < out.size(); ++i) {
    EXPECT_EQ(out[i].num_last, 1);
    out[i].ids = g->output_ids(static_cast<int>(i));
  }
  return out;
}

std::string refusal(const GenerationRequest& request) {
  try {
    loaded().frontend.submit(request);
  } catch (const InvalidInput& e) {
    return e.what();
  }
  return "accepted";
}

TEST(Generation, PiecesAreTheWholeText) {
  const Finished f = run(greedy(40))[0];
  EXPECT_EQ(f.reason, FinishReason::length);
  EXPECT_EQ(f.ids.size(), 40u);
  EXPECT_EQ(f.num_output, 40);
  EXPECT_EQ(f.num_prompt, static_cast<int>(loaded().tokenizer.encode(std::get<std::string>(greedy(1).prompt)).size()));
  EXPECT_EQ(f.text, loaded().tokenizer.decode(f.ids));
  EXPECT_GT(f.text.size(), 40u);
}

TEST(Generation, IdsAndTextAreTheSamePrompt) {
  GenerationRequest by_ids = greedy(10);
  by_ids.prompt = loaded().tokenizer.encode(std::get<std::string>(by_ids.prompt));
  EXPECT_EQ(run(by_ids)[0].text, run(greedy(10))[0].text);
}

TEST(Generation, AConversationGoesOnFromItsKv) {
  GenerationRequest r = greedy(90);
  const std::string opening = "She had never before seen such a garden";
  r.prompt = opening;
  const Finished whole = run(r)[0];
  EXPECT_EQ(whole.num_cached, 0);
  std::vector<int32_t> history = loaded().tokenizer.encode(opening);
  history.insert(history.end(), whole.ids.begin(), whole.ids.begin() + 80);
  r.prompt = history;
  r.sampling.max_tokens = 10;
  const Finished next = run(r)[0];
  EXPECT_EQ(next.num_cached, static_cast<int>(history.size() - 1) / kKvBlock * kKvBlock);
  EXPECT_EQ(next.ids, std::vector<int32_t>(whole.ids.begin() + 80, whole.ids.end()));
}

TEST(Generation, StopsAtAStringThatSpansTokens) {
  const Finished whole = run(greedy(40))[0];
  for (const size_t at : {size_t{1}, size_t{17}, whole.text.size() - 7}) {
    GenerationRequest r = greedy(40);
    r.stop = {"never to be seen", whole.text.substr(at, 7)};
    const Finished f = run(r)[0];
    EXPECT_EQ(f.reason, FinishReason::stop);
    EXPECT_EQ(f.text, whole.text.substr(0, whole.text.find(r.stop[1])));
    EXPECT_LE(f.ids.size(), whole.ids.size());
  }
  GenerationRequest r = greedy(12);  // the beginning of a stop string at the very end is text
  const std::string text = run(r)[0].text;
  r.stop = {text.substr(text.size() - 3) + "\x01"};
  const Finished f = run(r)[0];
  EXPECT_EQ(f.text, text);
  EXPECT_EQ(f.reason, FinishReason::length);
}

TEST(Generation, StopTokensAreNotText) {
  const Finished whole = run(greedy(20))[0];
  GenerationRequest r = greedy(20);
  r.sampling.stop_token_ids = {whole.ids[9]};
  const size_t first =
      static_cast<size_t>(std::find(whole.ids.begin(), whole.ids.end(), whole.ids[9]) - whole.ids.begin());
  const Finished f = run(r)[0];
  EXPECT_EQ(f.reason, FinishReason::stop);
  EXPECT_EQ(f.text, loaded().tokenizer.decode(std::span(whole.ids).first(first)));
  GenerationRequest eos = greedy(20);
  eos.sampling.ignore_eos = false;
  eos.sampling.logit_bias = {{loaded().model.config().eos_ids.at(0), 100.0f}};
  EXPECT_EQ(run(eos)[0].text, "");
  EXPECT_EQ(run(eos)[0].reason, FinishReason::stop);
}

TEST(Generation, ChoicesAreReproducibleAndDiffer) {
  GenerationRequest r = greedy(16);
  r.sampling.temperature = 1.0;
  r.sampling.seed = 5;
  const std::string single = run(r)[0].text;
  r.sampling.n = 3;
  const std::vector<Finished> three = run(r), again = run(r);
  EXPECT_EQ(three[0].text, single);
  EXPECT_NE(three[1].text, three[0].text);
  EXPECT_NE(three[2].text, three[1].text);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(three[i].text, again[i].text);
}

TEST(Generation, Logprobs) {
  GenerationRequest r = greedy(8);
  r.sampling.logprobs = 3;
  const Finished f = run(r)[0];
  ASSERT_EQ(f.logprobs.size(), 8u);
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(f.logprobs[i].token, f.ids[i]);
    EXPECT_LE(f.logprobs[i].logprob, 0.0f);
    ASSERT_EQ(f.logprobs[i].top.size(), 3u);
    EXPECT_EQ(f.logprobs[i].top[0].token, f.ids[i]);  // greedy
  }
}

// What the prompt's tokens are given is what they got when they were chosen, whatever chunks they came in.
TEST(Generation, LogprobsOfThePrompt) {
  GenerationRequest r = greedy(70);
  r.sampling.logprobs = 3;
  const Finished chosen = run(r)[0];
  std::vector<int32_t> prompt = loaded().tokenizer.encode(std::get<std::string>(r.prompt));
  const size_t first = prompt.size();
  prompt.insert(prompt.end(), chosen.ids.begin(), chosen.ids.end());
  r.prompt = prompt;
  r.prompt_logprobs = true;
  r.sampling.max_tokens = 2;
  r.sampling.n = 2;
  const std::unique_ptr<Generation> g = loaded().frontend.submit(r);
  while (g->next()) EXPECT_EQ(g->prompt_logprobs().size(), prompt.size() - 1);
  const std::vector<LogprobEntry>& found = g->prompt_logprobs();
  ASSERT_EQ(found.size(), prompt.size() - 1);
  for (size_t i = 0; i < chosen.logprobs.size(); ++i) {
    const LogprobEntry &want = chosen.logprobs[i], &got = found[first - 1 + i];
    EXPECT_EQ(got.token, want.token);
    EXPECT_EQ(got.logprob, want.logprob);
    ASSERT_EQ(got.top.size(), want.top.size());
    for (size_t j = 0; j < want.top.size(); ++j) EXPECT_EQ(got.top[j].logprob, want.top[j].logprob);
  }
}

TEST(Generation, ADefaultOfMaxTokensGivesWayToTheContext) {
  GenerationRequest r = greedy(1);
  r.sampling.max_tokens.reset();
  r.default_max_tokens = 5;
  EXPECT_EQ(run(r)[0].ids.size(), 5u);
  r.sampling.min_tokens = 9;
  EXPECT_EQ(run(r)[0].ids.size(), 9u);
  r.prompt = std::vector<int32_t>(124, 5);
  r.sampling.min_tokens = 0;
  EXPECT_EQ(run(r)[0].ids.size(), 4u);  // of the context of 128
  r.sampling.min_tokens = 9;            // so does min_tokens, which without max_tokens has no limit
  EXPECT_EQ(run(r)[0].ids.size(), 4u);
}

TEST(Generation, Cancel) {
  GenerationRequest r = greedy(100);
  r.sampling.n = 2;
  const std::unique_ptr<Generation> g = loaded().frontend.submit(r);
  ASSERT_TRUE(g->next());
  g->cancel();
  int num_cancelled = 0;
  while (const std::optional<TextDelta> d = g->next()) num_cancelled += d->finish == FinishReason::cancelled ? 1 : 0;
  EXPECT_EQ(num_cancelled, 2);
  EXPECT_FALSE(g->next());
  EXPECT_LT(g->output_ids(0).size(), 100u);
}

TEST(Generation, AnAbandonedOneEnds) {
  { const std::unique_ptr<Generation> g = loaded().frontend.submit(greedy(100)); }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (loaded().engine.stats().num_running + loaded().engine.stats().num_waiting > 0 &&
         std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(loaded().engine.stats().num_running, 0);
}

TEST(Generation, Refusals) {
  GenerationRequest r = greedy(8);
  r.prompt = std::vector<int32_t>{};
  EXPECT_THAT(refusal(r), HasSubstr("empty"));
  r.prompt = std::vector<int32_t>(128, 5);
  EXPECT_THAT(refusal(r), AllOf(HasSubstr("128 tokens"), HasSubstr("context")));
  r.prompt = std::vector<int32_t>(121, 5);
  EXPECT_THAT(refusal(r), AllOf(HasSubstr("121"), HasSubstr("max_tokens 8"), HasSubstr("128")));
  r.sampling.max_tokens = INT32_MAX;
  EXPECT_THAT(refusal(r), HasSubstr("max_tokens 2147483647"));
  for (const int32_t id : {-1, loaded().model.config().vocab_size}) {
    r.prompt = std::vector<int32_t>{5, id};
    EXPECT_THAT(refusal(r), HasSubstr(std::to_string(id)));
  }
  r.prompt = ChatPrompt{};
  EXPECT_THAT(refusal(r), AllOf(HasSubstr("no chat template"), HasSubstr("--chat-template")));
  r = greedy(8);
  r.sampling.temperature = -5.0;
  EXPECT_THAT(refusal(r), HasSubstr("temperature"));
  r = greedy(8);
  r.stop = {""};
  EXPECT_THAT(refusal(r), HasSubstr("stop"));
  r = greedy(8);
  r.sampling.logit_bias = {{1 << 20, 1.0f}};
  EXPECT_THAT(refusal(r), HasSubstr("logit_bias"));
  EXPECT_EQ(run(greedy(4))[0].ids.size(), 4u);  // nothing of it disturbed the engine
}

}  // namespace
}  // namespace comet
