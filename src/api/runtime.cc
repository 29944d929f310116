// SPDX-License-Identifier: Apache-2.0
#include "api/runtime.h"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/check.h"

namespace comet::api {
namespace {

constexpr int kLogitRows = 128;  // beside one for each sequence: for log-probabilities of prompts, and perplexity

ModelOptions model_options(const LoadOptions& o) {
  return {.kv_bits = o.kv_bits,
          .max_positions = o.max_model_len,
          .max_batch_tokens = o.max_batch_tokens,
          .max_logit_rows = o.max_batch_seqs + std::min(o.max_batch_tokens, kLogitRows)};
}

const LoadOptions& checked(const LoadOptions& o) {
  if (o.model.empty() == o.dummy_weights.empty()) throw_invalid("name either a model or a config for dummy weights");
  return o;
}

// Words that are numbers, so that benchmarks can send and read text.
Tokenizer numbered_tokenizer(int vocab_size) {
  nlohmann::ordered_json vocab = nlohmann::ordered_json::object();
  for (int id = 0; id < vocab_size; ++id) vocab[std::to_string(id)] = id;
  const nlohmann::ordered_json json = {{"version", "1.0"},
                                       {"added_tokens", nlohmann::ordered_json::array()},
                                       {"normalizer", nullptr},
                                       {"pre_tokenizer", {{"type", "WhitespaceSplit"}}},
                                       {"post_processor", nullptr},
                                       {"decoder", nullptr},
                                       {"model", {{"type", "WordLevel"}, {"vocab", vocab}, {"unk_token", "0"}}}};
  return Tokenizer::from_json(json.dump(), {}, "the tokenizer of random weights");
}

std::unique_ptr<ChatTemplate> load_chat_template(const Tokenizer& tokenizer, const std::string& file) {
  if (!file.empty()) return std::make_unique<ChatTemplate>(tokenizer.config(), file);
  return tokenizer.has_chat_template() ? std::make_unique<ChatTemplate>(tokenizer.config()) : nullptr;
}

// What random weights will take: 4 bits and two bytes a group where layers are quantized, one byte for lm_head.
size_t dummy_weight_bytes(const ModelConfig& c) {
  const auto macs = [](int n, int k) { return static_cast<double>(n) * k; };
  const double layer = macs(c.num_qkv_rows(), c.hidden_size) + macs(c.hidden_size, c.num_heads * c.head_dim) +
                       3 * macs(c.intermediate_size, c.hidden_size);
  const double table = macs(c.vocab_size, c.hidden_size);
  const double bytes = c.quantization ? c.num_layers * layer * (0.5 + 2.0 / kGroup) + table * 3
                                      : (c.num_layers * layer + table * (c.tie_embeddings ? 1 : 2)) * 2;
  return static_cast<size_t>(bytes);
}

}  // namespace

EngineOptions engine_options(const LoadOptions& o) {
  return {.max_batch_tokens = o.max_batch_tokens,
          .max_batch_seqs = std::min(o.max_batch_seqs, o.max_batch_tokens),
          .max_chunk = o.max_chunk,
          .kv_bytes = o.kv_memory,
          .prefix_cache = o.prefix_cache,
          .check_integrity = o.check_integrity};
}

Runtime::Runtime(const LoadOptions& o, const LayerProgress& progress)
    : pool(std::make_shared<ThreadPool>(checked(o).threads)),
      backend(make_backend(o.backend, o.isa, pool)),
      checkpoint(open_checkpoint(o)),
      model(*backend, checkpoint, model_options(o), progress),
      tokenizer(checkpoint.folder().empty() ? numbered_tokenizer(model.config().vocab_size)
                                            : Tokenizer::load(checkpoint.folder())),
      chat_template(load_chat_template(tokenizer, o.chat_template)),
      engine(std::make_unique<Engine>(model, engine_options(o))) {}

ModelInfo Runtime::info() const {
  const ModelConfig& c = model.config();
  return {.folder = checkpoint.folder().string(),
          .architecture = c.architecture,
          .scheme = scheme_name(checkpoint),
          .kv = "KV" + std::to_string(model.kv_format().bits),
          .backend = backend->name(),
          .weight_bytes = model.weight_bytes(),
          .kv_bytes =
              KvPool::block_bytes(*backend, c, model.kv_format()) * static_cast<size_t>(engine->stats().num_kv_blocks),
          .num_layers = c.num_layers,
          .vocab_size = c.vocab_size,
          .context = engine->context(),
          .threads = pool->num_threads(),
          .has_chat_template = chat_template != nullptr};
}

MemoryEstimate estimate_memory(const LoadOptions& options) {
  const Checkpoint checkpoint = open_checkpoint(options);
  const ModelConfig& c = checkpoint.config();
  const std::shared_ptr<ThreadPool> pool = std::make_shared<ThreadPool>(1);
  const std::unique_ptr<Backend> backend = make_backend(options.backend, options.isa, pool);
  const KvFormat kv = resolve_kv_format(c, options.kv_bits);
  MemoryEstimate e;
  e.weights = options.model.empty() ? dummy_weight_bytes(c) : checkpoint.weight_bytes();
  const int length = options.max_model_len > 0 ? options.max_model_len : c.max_positions;
  const size_t per_seq = KvPool::block_bytes(*backend, c, kv) * static_cast<size_t>((length + kKvBlock - 1) / kKvBlock);
  e.kv = options.kv_memory != 0
             ? options.kv_memory
             : std::max(per_seq, std::min(per_seq * static_cast<size_t>(options.max_batch_seqs), size_t{1} << 30));
  e.workspace = workspace_bytes(*backend, c, options.max_batch_tokens);
  e.available = static_cast<size_t>(sysconf(_SC_AVPHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return e;
}

}  // namespace comet::api
