// SPDX-License-Identifier: Apache-2.0
// The promise: the logits of a quantized model are the same bits everywhere. Held against tests/promise/hashes.json.
//
// `make test` runs pairs of (backend, threads, chunks); COMET_PROMISE=all the whole matrix.
// COMET_PROMISE_WRITE=BACKEND (ref, avx2, ..) writes the file anew from that backend: only for a change of the number
// contract.
#include <gtest/gtest.h>

#include <cstdlib>

#include "promise/logit_hashes.h"
#include "promise/promise_models.h"

namespace comet::promise {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kIsSlowBuild = true;
#else
constexpr bool kIsSlowBuild = false;
#endif

#if defined(__clang__)
constexpr size_t kRefLength = 300;
#else
constexpr size_t kRefLength = 6000;  // half an hour: one compiler does it
#endif

// One way to compute: chunks of so many tokens (0: whole), for prompts up to max_length.
struct Way {
  int chunk;
  size_t max_length;
};

std::vector<Way> ways(const BackendChoice& b) {
  const bool is_ref = b.name == "ref";
  if (is_whole_matrix()) {
    if (kIsUnoptimized) return is_ref ? std::vector<Way>{{7, 77}} : std::vector<Way>{{1, 77}, {7, 300}, {0, 1000}};
    if (is_ref) return {{1, 77}, {7, 300}, {64, 900}, {0, kRefLength}};
    return {{1, 6000}, {7, 6000}, {64, 6000}, {0, 6000}};
  }
  if (kIsSlowBuild) return {{0, 16}, {7, is_ref ? size_t{16} : 77}};
  if (is_ref) return {{0, 65}};  // slow: about a second for each 16 tokens
  if (b.name == "avx2")
    return b.threads == 1 ? std::vector<Way>{{0, 1000}, {1, 16}} : std::vector<Way>{{64, 300}, {7, 77}};
  return b.threads == 1 ? std::vector<Way>{{64, 1000}, {7, 77}, {1, 77}} : std::vector<Way>{{0, 6000}};
}

class Promise : public testing::TestWithParam<BackendChoice> {
 protected:
  void SetUp() override {
    backend_ = make_backend(GetParam());
    if (backend_ == nullptr) GTEST_SKIP() << "no " << GetParam().name << " on this machine";
  }
  std::unique_ptr<Backend> backend_;
};

TEST_P(Promise, LogitsAreTheKeptOnes) {
  const std::map<std::string, std::string> kept = load_hashes();
  for (const PromiseModel& m : promise_models())
    for (const Way& way : ways(GetParam())) {
      size_t longest = 0;
      for (const auto& prompt : m.prompts)
        if (prompt.size() <= way.max_length) longest = prompt.size();
      if (longest == 0) continue;
      const int tokens = way.chunk == 0 ? static_cast<int>(longest) : way.chunk;
      Model model(*backend_, m.checkpoint, {.max_batch_tokens = tokens, .max_logit_rows = tokens});
      for (const auto& prompt : m.prompts) {
        if (prompt.size() > way.max_length) continue;
        const std::string name = hash_name(m.name, prompt.size());
        EXPECT_TRUE(kept.contains(name)) << name;
        if (!kept.contains(name)) continue;
        EXPECT_EQ(combine(row_hashes(model, prompt, way.chunk)), kept.at(name))
            << name << " in chunks of " << way.chunk;
      }
    }
}

TEST_P(Promise, BatchedLogitsAreTheKeptOnes) {
  const std::map<std::string, std::string> kept = load_hashes();
  const bool is_ref = GetParam().name == "ref";
  const size_t max_length = is_whole_matrix() ? (kIsUnoptimized ? 77
                                                 : is_ref       ? 300
                                                                : 6000)
                                              : (kIsSlowBuild              ? 16
                                                 : is_ref                  ? 16
                                                 : GetParam().threads == 1 ? 77
                                                                           : 300);
  for (const PromiseModel& m : promise_models()) {
    std::vector<std::vector<int32_t>> prompts;
    for (const auto& prompt : m.prompts)
      if (prompt.size() <= max_length) prompts.push_back(prompt);
    prompts.push_back(prompts.front());  // the same prompt twice, side by side
    const int tokens = 64 * static_cast<int>(prompts.size());
    Model model(*backend_, m.checkpoint, {.max_batch_tokens = tokens, .max_logit_rows = tokens});
    const auto rows = batched_row_hashes(model, prompts);
    for (size_t p = 0; p < prompts.size(); ++p)
      EXPECT_EQ(combine(rows[p]), kept.at(hash_name(m.name, prompts[p].size())))
          << m.name << ", prompt of " << prompts[p].size();
  }
}

// The program that quantizes gives the same bytes everywhere, too.
TEST(PromiseFile, WeightsAreTheKeptOnes) {
  const std::map<std::string, std::string> kept = load_hashes();
  for (const PromiseModel& m : promise_models())
    if (!m.weights_hash.empty()) {
      EXPECT_EQ(m.weights_hash, kept.at(m.name + "/weights"));
    }
}

TEST(PromiseFile, Write) {
  const char* name = std::getenv("COMET_PROMISE_WRITE");
  if (name == nullptr) GTEST_SKIP() << "writes hashes.json only when COMET_PROMISE_WRITE names a backend";
  const auto backend = make_backend({name, 2});
  ASSERT_NE(backend, nullptr);
  std::map<std::string, std::string> hashes;
  for (const PromiseModel& m : promise_models()) {
    if (!m.weights_hash.empty()) hashes[m.name + "/weights"] = m.weights_hash;
    Model model(*backend, m.checkpoint, {.max_batch_tokens = 512, .max_logit_rows = 512});
    for (const auto& prompt : m.prompts)
      hashes[hash_name(m.name, prompt.size())] = combine(row_hashes(model, prompt, 512));
  }
  save_hashes(hashes);
}

INSTANTIATE_TEST_SUITE_P(Backends, Promise,
                         testing::Values(BackendChoice{"ref", 1}, BackendChoice{"avx2", 1}, BackendChoice{"avx2", 2},
                                         BackendChoice{"avx512vnni", 1}, BackendChoice{"avx512vnni", 2}),
                         [](const auto& p) { return p.param.name + "_" + std::to_string(p.param.threads); });

}  // namespace
}  // namespace comet::promise
