// SPDX-License-Identifier: Apache-2.0
// The promise for a model with attention windows: the reference's logits on every ISA, in any chunks, in a batch.
#include <gtest/gtest.h>

#include <random>

#include "promise/logit_hashes.h"
#include "promise/promise_models.h"

namespace comet::promise {
namespace {

constexpr int kLength = 600;

// Three layers: no window, one over splits, one shorter than a kv_block; norms of q and k as in Qwen3.
Checkpoint windowed_model(std::vector<int> windows) {
  ModelConfig c;
  c.architecture = "Qwen3ForCausalLM";
  c.hidden_size = 128;
  c.intermediate_size = 128;
  c.num_layers = 3;
  c.num_heads = 2;
  c.num_kv_heads = 1;
  c.head_dim = 64;
  c.vocab_size = 96;
  c.max_positions = kLength;
  c.qk_norm = true;
  c.windows = std::move(windows);
  QuantizationConfig q;
  q.kv = {.bits = 4, .k_rotate = true, .v_rotate = true, .smooth = false};
  for (int layer = 0; layer < c.num_layers; ++layer)
    for (const Site site : kSites)
      q.sites[site_name(layer, site)] = {.k_in = 128, .k = 128, .num_int8_groups = 0, .bits2 = 8, .rotate = true};
  c.quantization = q;
  return Checkpoint::dummy(c, 3);
}

std::vector<int32_t> prompt() {
  std::mt19937 random(5);
  std::vector<int32_t> ids;
  for (int i = 0; i < kLength; ++i) ids.push_back(static_cast<int32_t>(random() % 96));
  return ids;
}

TEST(PromiseWindow, LogitsAreTheReferencesOnes) {
  const std::vector<int32_t> ids = prompt();
  auto hashes = [&](const BackendChoice& choice, const std::vector<int>& windows, int chunk) {
    const auto backend = make_backend(choice);
    const int tokens = chunk == 0 ? kLength : chunk;
    Model model(*backend, windowed_model(windows), {.max_batch_tokens = tokens, .max_logit_rows = tokens});
    return row_hashes(model, ids, chunk);
  };
  const std::vector<int> windows = {0, 300, 24};
  const std::vector<uint64_t> want = hashes({"ref", 1}, windows, 0);
  for (const char* isa : {"avx2", "avx512vnni"}) {
    if (make_backend({isa, 1}) == nullptr) {
      printf("skipped: no %s on this machine\n", isa);
      continue;
    }
    EXPECT_EQ(hashes({isa, 1}, windows, 0), want) << isa;
    EXPECT_EQ(hashes({isa, 2}, windows, 7), want) << isa;
    EXPECT_EQ(hashes({isa, 2}, windows, 64), want) << isa;
    const auto backend = make_backend({isa, 2});
    Model model(*backend, windowed_model(windows), {.max_batch_tokens = 128, .max_logit_rows = 128});
    const auto rows = batched_row_hashes(model, {ids, {ids.begin(), ids.begin() + 90}});
    EXPECT_EQ(rows[0], want) << isa;
    EXPECT_EQ(rows[1], std::vector<uint64_t>(want.begin(), want.begin() + 90)) << isa;

    // The first row that a window cuts is the first that differs from a model without it.
    const std::vector<uint64_t> wide = hashes({isa, 1}, {0, 300, 0}, 0);
    EXPECT_TRUE(std::equal(want.begin(), want.begin() + 24, wide.begin())) << isa;
    EXPECT_NE(want[24], wide[24]) << isa;
  }
}

}  // namespace
}  // namespace comet::promise
