// SPDX-License-Identifier: Apache-2.0
#include "promise/promise_models.h"

#define XXH_INLINE_ALL
#include <unistd.h>
#include <xxhash.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "base/mapped_file.h"
#include "quantizer/quantize_model.h"
#include "text/tokenizer.h"

namespace comet::promise {
namespace {

namespace fs = std::filesystem;

// 64 fills a kv_block; 300 goes beyond the first split of 256 keys.
constexpr int kTextLengths[] = {16, 64, 77, 300, 900};
constexpr int kRandomLengths[] = {16, 65, 257, 1000, 6000};

struct TemporaryFolder {
  fs::path path = fs::temp_directory_path() / fmt::format("comet-promise-{}", getpid());
  TemporaryFolder() { fs::create_directories(path); }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

std::string file_hash(const fs::path& file) {
  const MappedFile mapped(file);
  return fmt::format("{:016x}", XXH64(mapped.data(), mapped.size(), 0));
}

PromiseModel quantized_text_model(const fs::path& folder, const std::string& act_bits, const std::string& name) {
  const fs::path source = fs::path(COMET_SOURCE_DIR) / "models/gutenberg-15m";
  ThreadPool threads(2);
  const auto backend = ref_backend();
  quantize_model({.input = source,
                  .output = folder / name,
                  .recipe = load_recipe("rtn", {{"act_bits", act_bits}, {"int8_groups", "1"}}),
                  .windows = {},
                  .progress = {}},
                 *backend, threads);
  PromiseModel model{name, Checkpoint::open(folder / name), {}, file_hash(folder / name / "model.safetensors")};
  const std::vector<int32_t> ids =
      Tokenizer::load(source).encode(read_file(source / "eval.txt").substr(0, 40000), false);
  size_t at = 0;
  for (const int length : kTextLengths) {
    model.prompts.emplace_back(ids.begin() + static_cast<int64_t>(at), ids.begin() + static_cast<int64_t>(at) + length);
    at += static_cast<size_t>(length);
  }
  return model;
}

// Every region and group count differs somewhere: n8 0, 1 and all; 4 and 8 bits; rotated or not; llama3 rope scaling;
// GQA 2.
PromiseModel random_model() {
  ModelConfig c;
  c.architecture = "LlamaForCausalLM";
  c.hidden_size = 320;  // two groups and a half: padding
  c.intermediate_size = 448;
  c.num_layers = 2;
  c.num_heads = 4;
  c.num_kv_heads = 2;
  c.head_dim = 128;
  c.vocab_size = 512;
  c.max_positions = 6144;
  c.rope = {.theta = 500000.0,
            .scaling = RopeConfig::Scaling::llama3,
            .factor = 8.0,
            .low_freq_factor = 1.0,
            .high_freq_factor = 4.0,
            .original_max_positions = 2048};
  c.qkv_bias = true;
  QuantizationConfig q;
  q.kv = {.bits = 4, .k_rotate = true, .v_rotate = true, .smooth = false};
  int index = 0;
  for (int layer = 0; layer < c.num_layers; ++layer)
    for (const Site site : kSites) {
      const int channels = c.site_channels(site), groups = padded_channels(channels) / kGroup;
      const int n8[] = {1, 0, 2, 1, groups, 2, 0, 3};
      q.sites[site_name(layer, site)] = {.k_in = channels,
                                         .k = padded_channels(channels),
                                         .num_int8_groups = n8[index],
                                         .bits2 = index % 3 == 2 ? 8 : 4,
                                         .rotate = index % 4 != 3,
                                         .clip1 = index == 0 ? 0.9f : 1.0f,
                                         .clip2 = index == 3 ? 0.875f : 1.0f};
      ++index;
    }
  c.quantization = q;
  PromiseModel model{"random-128", Checkpoint::dummy(c, 7), {}, ""};
  std::mt19937 random(11);  // its numbers are the same everywhere, unlike those of a distribution
  for (const int length : kRandomLengths) {
    std::vector<int32_t> ids;
    for (int i = 0; i < length; ++i)
      ids.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(c.vocab_size)));
    model.prompts.push_back(std::move(ids));
  }
  return model;
}

}  // namespace

bool is_whole_matrix() {
  const char* value = std::getenv("COMET_PROMISE");
  return value != nullptr && std::string(value) == "all";
}

const std::vector<PromiseModel>& promise_models() {
  static const TemporaryFolder folder;
  static const std::vector<PromiseModel> models = {quantized_text_model(folder.path, "8", "gutenberg-15m-W4A8KV4"),
                                                   quantized_text_model(folder.path, "4", "gutenberg-15m-W4AxKV4"),
                                                   random_model()};
  return models;
}

std::unique_ptr<Backend> make_backend(const BackendChoice& choice) {
  if (choice.name == "ref") return ref_backend();
  try {
    return cpu_backend(choice.name, std::make_shared<ThreadPool>(choice.threads));
  } catch (const Unsupported&) {
    return nullptr;
  }
}

}  // namespace comet::promise
