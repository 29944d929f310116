// SPDX-License-Identifier: Apache-2.0
// A non-finite value ends its own request with an error that names the place; the rest of the batch goes on, bit for
// bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <map>

#include "engine/engine_core.h"
#include "promise/logit_hashes.h"
#include "promise/promise_models.h"
#include "quantizer/quantize_model.h"

namespace comet::promise {
namespace {

namespace fs = std::filesystem;

constexpr int32_t kBadToken = 7;

// A tiny model, quantized or not, in which the embedding of kBadToken is infinite.
class Containment : public testing::TestWithParam<std::string> {
 protected:
  Containment() {
    const fs::path source = fs::path(COMET_SOURCE_DIR) / "tests/goldens/models/llama-plain";
    ThreadPool threads(1);
    const auto ref = ref_backend();
    fs::create_directories(folder_);
    fs::copy(source, folder_ / "plain");
    quantize_model({.input = source,
                    .output = folder_ / "quantized",
                    .recipe = load_recipe("rtn", {{"act_bits", "4"}}),
                    .windows = {},
                    .progress = {}},
                   *ref, threads);
    for (const char* name : {"plain", "quantized"}) spoil(folder_ / name / "model.safetensors");
  }
  ~Containment() override { fs::remove_all(folder_); }

  static void spoil(const fs::path& file) {
    std::map<std::string, OwnedTensor> tensors;
    {
      const Safetensors opened = Safetensors::open_file(file);
      for (const auto& [name, view] : opened.tensors()) {
        const uint8_t* p = static_cast<const uint8_t*>(view.data);
        tensors[name] = {view.dtype, view.shape, {p, p + view.bytes()}};
      }
    }
    OwnedTensor& table = tensors.at("model.embed_tokens.weight");
    const uint16_t infinity = 0x7f80;
    memcpy(&table.bytes[static_cast<size_t>(kBadToken * table.shape[1]) * 2], &infinity, 2);
    write_safetensors(file, tensors);
  }

  fs::path folder_ = fs::temp_directory_path() / ("comet-containment-" + std::to_string(getpid()));
};

struct Ended {
  std::vector<int32_t> tokens;
  std::vector<uint64_t> rows;
  std::string error;
  FinishReason finish = FinishReason::none;
};

// Runs prompts side by side with little KV memory, so that kv_blocks of ended requests are used again.
std::map<size_t, Ended> run(Model& model, const std::map<size_t, std::vector<int32_t>>& prompts) {
  EngineCore core(model, {.max_batch_tokens = 64,
                          .max_batch_seqs = 4,
                          .max_chunk = 20,
                          .kv_bytes = 8 * KvPool::block_bytes(model.backend(), model.config(), model.kv_format())});
  std::map<size_t, Ended> ended;
  std::map<SeqId, size_t> names;
  core.runner().set_observer([&](const Sequence& s, int, std::span<const float> logits) {
    ended[names[s.id]].rows.push_back(hash_row(logits));
  });
  for (const auto& [name, prompt] : prompts) {
    SequenceSpec spec{.prompt = prompt};
    spec.params.max_tokens = 12;
    spec.params.temperature = 0.0;
    spec.params.ignore_eos = true;
    spec.params.logit_bias = {{kBadToken, -100.0f}};
    const SeqId id = core.add(std::move(spec), [&ended, n = name](const SequenceEvent& e) {
      EXPECT_EQ(ended[n].finish, FinishReason::none);
      if (e.token) ended[n].tokens.push_back(e.token->token);
      ended[n].finish = e.finish;
      ended[n].error = e.error;
    });
    names[id] = name;
  }
  while (!core.step().empty()) core.scheduler().check_integrity();
  EXPECT_EQ(core.scheduler().blocks().num_used(), 0);
  return ended;
}

TEST_P(Containment, OnlyItsOwnSequenceEnds) {
  const auto backend = make_backend({GetParam(), 1});
  if (backend == nullptr) GTEST_SKIP() << "no " << GetParam() << " on this machine";
  for (const std::string name : {"quantized", "plain"}) {
    Model model(*backend, Checkpoint::open(folder_ / name),
                {.max_positions = 96, .max_batch_tokens = 64, .max_logit_rows = 64});
    std::map<size_t, std::vector<int32_t>> good, all;
    for (size_t i = 0; i < 10; ++i) {
      std::vector<int32_t> prompt;
      for (size_t j = 0; j < 5 + 7 * i; ++j) prompt.push_back(static_cast<int32_t>(10 + (j * 13 + i * 5) % 40));
      if (i % 3 == 1)
        prompt[i == 1 ? 0 : prompt.size() - i] = kBadToken;  // first, in a later chunk
      else
        good[i] = prompt;
      all[i] = prompt;
    }
    const std::map<size_t, Ended> alone = run(model, good), together = run(model, all);
    for (const auto& [i, ended] : together) {
      if (good.contains(i)) {
        EXPECT_EQ(ended.finish, FinishReason::length) << name << " " << i << ": " << ended.error;
        EXPECT_EQ(ended.tokens, alone.at(i).tokens) << name << " " << i;
        if (name == "quantized") {
          EXPECT_EQ(ended.rows, alone.at(i).rows) << i;
        }
        continue;
      }
      EXPECT_EQ(ended.finish, FinishReason::error) << name << " " << i;
      EXPECT_THAT(ended.error,
                  testing::HasSubstr(name == "quantized" ? "non-finite value at model.layers.0.attn_in"
                                                         : "non-finite value in q, k or v of model.layers.0"));
      EXPECT_THAT(ended.error, testing::HasSubstr("at position " + std::to_string(i == 1 ? 0 : all[i].size() - i)));
      EXPECT_TRUE(ended.tokens.empty());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, Containment, testing::Values("ref", "avx2", "avx512vnni"),
                         [](const auto& p) { return p.param; });

}  // namespace
}  // namespace comet::promise
