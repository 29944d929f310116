// SPDX-License-Identifier: Apache-2.0
// Trained models choose the tokens that transformers chose (tests/goldens/README.md).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/mapped_file.h"
#include "fast_backend.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace comet {
namespace {

namespace fs = std::filesystem;

// Where transformers' two best logits are closer than this, bf16 K and V and another order of sums may turn them.
constexpr double kSmallGap = 0.02;

// Logits of every position from `first` on, [ids.size() - first, vocab].
std::vector<float> forced_logits(Model& model, const std::vector<int32_t>& ids, int first) {
  std::vector<int32_t> blocks((ids.size() + kKvBlock - 1) / kKvBlock);
  std::iota(blocks.begin(), blocks.end(), 0);
  KvPool pool(model.backend(), model.config(), model.kv_format(), static_cast<int>(blocks.size()));
  HostBatch batch;
  batch.add_sequence(ids, 0, blocks);
  for (int i = first; i < static_cast<int>(ids.size()); ++i) batch.logit_rows.push_back(i);
  ForwardResult result = model.forward(batch, pool);
  EXPECT_EQ(std::accumulate(result.row_errors.begin(), result.row_errors.end(), 0u), 0u);
  return std::move(result.logits);
}

int32_t argmax(const float* row, int vocab) { return static_cast<int32_t>(std::max_element(row, row + vocab) - row); }

nlohmann::json read_json(const fs::path& file) { return nlohmann::json::parse(read_file(file)); }

TEST(GoldenText, Gutenberg15mChoosesTheSameTokens) {
  const fs::path folder = fs::path(COMET_SOURCE_DIR) / "models/gutenberg-15m";
  const nlohmann::json golden = read_json(fs::path(COMET_SOURCE_DIR) / "tests/goldens/gutenberg-15m.json");
  const auto backend = fast_backend(2);
  Model model(*backend, Checkpoint::open(folder), {});
  const Tokenizer tokenizer = Tokenizer::load(folder);
  const int vocab = model.config().vocab_size;
  int num_steps = 0, num_exceptions = 0;
  ASSERT_EQ(golden["prompts"].size(), 10u);
  for (const nlohmann::json& prompt : golden["prompts"]) {
    std::vector<int32_t> ids = prompt["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer.encode(prompt["text"].get<std::string>(), false), ids) << prompt["text"];
    const std::vector<int32_t> greedy = prompt["greedy_ids"].get<std::vector<int32_t>>();
    const std::vector<double> gaps = prompt["top2_gaps"].get<std::vector<double>>();
    ASSERT_EQ(greedy.size(), 64u);
    const int first = static_cast<int>(ids.size()) - 1;
    ids.insert(ids.end(), greedy.begin(), greedy.end() - 1);
    const std::vector<float> logits = forced_logits(model, ids, first);
    for (size_t i = 0; i < greedy.size(); ++i, ++num_steps) {
      const float* row = &logits[i * static_cast<size_t>(vocab)];
      const int32_t ours = argmax(row, vocab);
      if (ours == greedy[i]) continue;
      ++num_exceptions;
      printf("prompt at %d, step %zu: ours %d, transformers' %d, gap %.4f there, %.4f here\n",
             prompt["offset"].get<int>(), i, ours, greedy[i], gaps[i], static_cast<double>(row[ours] - row[greedy[i]]));
      EXPECT_LT(gaps[i], kSmallGap) << "prompt at " << prompt["offset"] << ", step " << i;
    }
  }
  printf("gutenberg-15m: %d of %d steps differ from transformers' choice\n", num_exceptions, num_steps);
  EXPECT_EQ(num_steps, 640);
}

// A Llama 2 style model of others: BPE with byte fallback, BOS, dimensions that are no multiples of 128.
TEST(GoldenText, Stories260kWritesTheSameText) {
  const char* conformance = std::getenv("COMET_CONFORMANCE_DIR");
  if (conformance == nullptr) GTEST_SKIP() << "COMET_CONFORMANCE_DIR is not set";
  const fs::path folder = fs::path(conformance) / "models/stories260k";
  if (!fs::exists(folder)) GTEST_SKIP() << "no models/stories260k in COMET_CONFORMANCE_DIR";
  const nlohmann::json golden = read_json(folder / "golden.json");
  const auto backend = fast_backend(2);
  Model model(*backend, Checkpoint::open(folder), {});
  const Tokenizer tokenizer = Tokenizer::load(folder);
  const int vocab = model.config().vocab_size;

  // Teacher-forced with its own text: every choice the same means that greedy decoding gives this text.
  const std::vector<int32_t> greedy = golden["greedy_ids"].get<std::vector<int32_t>>();
  const std::vector<float> logits = forced_logits(model, greedy, 0);
  for (size_t i = 0; i + 1 < greedy.size(); ++i)
    EXPECT_EQ(argmax(&logits[i * static_cast<size_t>(vocab)], vocab), greedy[i + 1]) << "position " << i;
  EXPECT_EQ(tokenizer.decode(std::span(greedy).subspan(1)), golden["greedy_text"].get<std::string>());

  const std::vector<int32_t> fresh = golden["fresh_ids"].get<std::vector<int32_t>>();
  EXPECT_EQ(tokenizer.encode(golden["fresh_text"].get<std::string>()), fresh);
  const std::vector<float> fresh_logits = forced_logits(model, fresh, 0);
  double nll = 0.0;
  for (size_t i = 0; i + 1 < fresh.size(); ++i) {
    const float* row = &fresh_logits[i * static_cast<size_t>(vocab)];
    double sum = 0.0;
    for (int j = 0; j < vocab; ++j) sum += std::exp(static_cast<double>(row[j]));
    nll += std::log(sum) - static_cast<double>(row[fresh[i + 1]]);
  }
  // A mean over 80 tokens, with K and V in bf16: 0.3% of perplexity.
  EXPECT_NEAR(nll / static_cast<double>(fresh.size() - 1), golden["fresh_nll_per_token"].get<double>(), 3e-3);
}

}  // namespace
}  // namespace comet
