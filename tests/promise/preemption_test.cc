// SPDX-License-Identifier: Apache-2.0
// Every row of logits that a busy, preempting engine sampled from equals the one the same tokens give alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "engine/engine_core.h"
#include "promise/logit_hashes.h"
#include "promise/promise_models.h"

namespace comet::promise {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kNumRequests = 12;
#else
constexpr int kNumRequests = kIsUnoptimized ? 24 : 64;
#endif
constexpr int kMaxPrompt = 150, kMaxOutput = 24;

struct Row {
  SeqId seq;
  int position;
  uint64_t hash;
};

struct Crowd {
  std::vector<Row> rows;
  std::map<SeqId, std::vector<int32_t>> tokens;  // prompt and output
  int64_t num_preemptions = 0, num_cached_tokens = 0;
};

// Requests of random lengths arrive at random steps; tokens are sampled at temperature 1. With the prefix cache many of
// them begin alike.
Crowd run_crowd(Model& model, const PromiseModel& m, int max_chunk, bool prefix_cache, int num_requests) {
  const size_t block = KvPool::block_bytes(model.backend(), model.config(), model.kv_format());
  EngineCore core(model, {.max_batch_tokens = 160,
                          .max_batch_seqs = 16,
                          .max_chunk = max_chunk,
                          .kv_bytes = 20 * block,
                          .prefix_cache = prefix_cache,
                          .preempt_every = 5});
  Crowd crowd;
  core.runner().set_observer([&](const Sequence& s, int position, std::span<const float> logits) {
    crowd.rows.push_back({s.id, position, hash_row(logits)});
  });
  std::mt19937 random(29);
  const std::vector<int32_t>& source = m.prompts.back();
  std::vector<int> arrivals;
  for (int i = 0; i < num_requests; ++i) arrivals.push_back(static_cast<int>(random() % (3 * num_requests)));
  std::sort(arrivals.begin(), arrivals.end());
  size_t next = 0;
  int num_finished = 0;
  for (int step = 0; num_finished < num_requests; ++step) {
    for (; next < arrivals.size() && arrivals[next] <= step; ++next) {
      const size_t length = 1 + random() % kMaxPrompt;
      const size_t first = prefix_cache ? random() % 4 : random() % (source.size() - length);
      SequenceSpec spec{.prompt = {source.begin() + static_cast<int64_t>(first),
                                   source.begin() + static_cast<int64_t>(first + length)}};
      spec.params.max_tokens = 1 + static_cast<int>(random() % kMaxOutput);
      spec.params.ignore_eos = true;
      spec.seed = random();
      spec.priority = static_cast<int>(random() % 2);
      const std::vector<int32_t> prompt = spec.prompt;
      const SeqId id = core.add(std::move(spec), [&](const SequenceEvent& event) {
        EXPECT_EQ(event.error, "");
        if (event.token) crowd.tokens[event.id].push_back(event.token->token);
        if (event.finish != FinishReason::none) ++num_finished;
      });
      crowd.tokens[id] = prompt;
    }
    core.step();
    core.scheduler().check_integrity();
  }
  crowd.num_preemptions = core.scheduler().num_preemptions();
  crowd.num_cached_tokens = core.scheduler().num_cached_tokens();
  return crowd;
}

// skipped: a model left out where the whole matrix is not run.
void expect_same_alone(const BackendChoice& crowded, const BackendChoice& alone, int max_chunk,
                       const std::string& skipped = {}, bool prefix_cache = false, int num_requests = kNumRequests) {
  const auto crowd_backend = make_backend(crowded), alone_backend = make_backend(alone);
  if (crowd_backend == nullptr || alone_backend == nullptr)
    GTEST_SKIP() << "no " << crowded.name << " or " << alone.name << " on this machine";
  for (const PromiseModel& m : promise_models()) {
    if (m.name == skipped && !is_whole_matrix()) continue;
    Model model(*crowd_backend, m.checkpoint, {.max_batch_tokens = 160, .max_logit_rows = 160});
    const Crowd crowd = run_crowd(model, m, max_chunk, prefix_cache, num_requests);
    EXPECT_GE(crowd.num_preemptions, num_requests / 4);
    EXPECT_GE(crowd.num_cached_tokens, prefix_cache ? num_requests * 32 : 0);
    Model reference(*alone_backend, m.checkpoint,
                    {.max_batch_tokens = kMaxPrompt + kMaxOutput, .max_logit_rows = kMaxPrompt + kMaxOutput});
    std::map<SeqId, std::vector<uint64_t>> want;
    for (const auto& [id, tokens] : crowd.tokens) want[id] = row_hashes(reference, tokens, 0);
    size_t different = 0;
    for (const Row& row : crowd.rows) different += row.hash != want[row.seq][static_cast<size_t>(row.position)] ? 1 : 0;
    EXPECT_EQ(different, 0u) << m.name << ": of " << crowd.rows.size() << " rows, " << crowd.num_preemptions
                             << " preemptions, chunks of " << max_chunk;
    size_t outputs = 0;
    for (const auto& [id, tokens] : crowd.tokens) outputs += tokens.size();
    EXPECT_GE(crowd.rows.size(), static_cast<size_t>(num_requests));
    EXPECT_GT(outputs, crowd.rows.size());
  }
}

TEST(Preemption, Avx512vnniAgainstAvx2) {
  expect_same_alone({"avx512vnni", 2}, {"avx2", 1}, 0, "gutenberg-15m-W4A8KV4");
}
TEST(Preemption, Avx2AgainstAvx512vnni) {
  expect_same_alone({"avx2", 2}, {"avx512vnni", 1}, 7, "gutenberg-15m-W4AxKV4");
}
TEST(Preemption, WithThePrefixCache) {
  const bool has_vnni = make_backend({"avx512vnni", 1}) != nullptr;
  expect_same_alone({"avx2", 2}, {has_vnni ? "avx512vnni" : "avx2", 1}, 0, "gutenberg-15m-W4A8KV4", true);
}

// On a machine with one ISA alone: the same kernels, alone and in a crowd.
TEST(Preemption, Avx2AgainstItself) {
  if (make_backend({"avx512vnni", 1}) != nullptr && !is_whole_matrix())
    GTEST_SKIP() << "the pairs with avx512vnni say more";
  expect_same_alone({"avx2", 1}, {"avx2", 2}, 64);
}

TEST(Preemption, EveryChunkSize) {
  if (!is_whole_matrix()) GTEST_SKIP() << "part of the whole matrix (COMET_PROMISE=all)";
  for (const int chunk : kIsUnoptimized ? std::vector{7} : std::vector{1, 7, 64, 0})
    for (const int threads : {1, 2}) {
      expect_same_alone({"avx512vnni", threads}, {"avx2", 3 - threads}, chunk);
      expect_same_alone({"avx2", threads}, {"avx512vnni", 3 - threads}, chunk);
    }
}

// The reference in a crowd: the slow and obvious one has its own indexing of kv_blocks.
TEST(Preemption, Reference) {
  if (!is_whole_matrix()) GTEST_SKIP() << "part of the whole matrix (COMET_PROMISE=all)";
  expect_same_alone({"ref", 1}, {"avx2", 2}, 7, {}, false, kIsUnoptimized ? 4 : 16);
}

}  // namespace
}  // namespace comet::promise
