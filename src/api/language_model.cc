// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "api/composition.h"
#include "api/evaluate.h"
#include "base/check.h"
#include "frontend/generation.h"

namespace comet::api {
namespace {

SamplingParams to_params(const Sampling& s) {
  SamplingParams p;
  p.temperature = s.temperature;
  p.top_k = s.top_k;
  p.top_p = s.top_p;
  p.min_p = s.min_p;
  p.repetition_penalty = s.repetition_penalty;
  p.presence_penalty = s.presence_penalty;
  p.frequency_penalty = s.frequency_penalty;
  p.logit_bias = s.logit_bias;
  p.seed = s.seed;
  p.n = s.n;
  p.max_tokens = s.max_tokens;
  p.min_tokens = s.min_tokens;
  p.stop_token_ids = s.stop_token_ids;
  p.ignore_eos = s.ignore_eos;
  p.logprobs = s.logprobs;
  return p;
}

nlohmann::ordered_json parse_messages(const std::string& text) {
  nlohmann::ordered_json messages = nlohmann::ordered_json::parse(text, nullptr, false);
  if (!messages.is_array()) throw_invalid("messages: expected a JSON array of objects with \"role\" and \"content\"");
  return messages;
}

std::string logprobs_json(const std::vector<LogprobEntry>& entries) {
  if (entries.empty()) return {};
  nlohmann::json out = nlohmann::json::array();
  for (const LogprobEntry& e : entries) {
    nlohmann::json top = nlohmann::json::array();
    for (const TokenLogprob& t : e.top) top.push_back({t.token, t.logprob});
    out.push_back({{"id", e.token}, {"token", e.text}, {"logprob", e.logprob}, {"top", top}});
  }
  return out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

class FrontendAnswer final : public Answer {
 public:
  explicit FrontendAnswer(std::unique_ptr<Generation> generation) : generation_(std::move(generation)) {}

  std::optional<Delta> next() override {
    const std::optional<TextDelta> d = generation_->next();
    if (!d) return std::nullopt;
    return Delta{.choice = d->choice,
                 .text = d->text,
                 .finish = d->finish == FinishReason::none ? "" : to_string(d->finish),
                 .error = d->error,
                 .num_prompt = d->num_prompt,
                 .num_output = d->num_output,
                 .num_cached = d->num_cached,
                 .logprobs_json = logprobs_json(d->logprobs)};
  }
  void cancel() override { generation_->cancel(); }
  std::vector<int32_t> output_ids(int choice) const override { return generation_->output_ids(choice); }

 private:
  std::unique_ptr<Generation> generation_;
};

class LoadedModel final : public LanguageModel {
 public:
  LoadedModel(const LoadOptions& options, const LayerProgress& progress)
      : pool_(std::make_shared<ThreadPool>(options.threads)),
        backend_(make_backend(options.backend, options.isa, pool_)),
        checkpoint_(open_checkpoint(options)),
        model_(*backend_, checkpoint_, model_options(options), progress) {
    if (!checkpoint_.folder().empty()) {
      tokenizer_ = std::make_unique<Tokenizer>(Tokenizer::load(checkpoint_.folder()));
      if (!options.chat_template.empty())
        chat_template_ = std::make_unique<ChatTemplate>(tokenizer_->config(), options.chat_template);
      else if (tokenizer_->has_chat_template())
        chat_template_ = std::make_unique<ChatTemplate>(tokenizer_->config());
    }
    engine_ = std::make_unique<Engine>(model_, engine_options(options));
    const ModelConfig& c = model_.config();
    info_ = {.folder = checkpoint_.folder().string(),
             .architecture = c.architecture,
             .scheme = scheme_name(checkpoint_),
             .kv = "KV" + std::to_string(model_.kv_format().bits),
             .backend = backend_->name(),
             .weight_bytes = model_.weight_bytes(),
             .kv_bytes = KvPool::block_bytes(*backend_, c, model_.kv_format()) *
                         static_cast<size_t>(num_kv_blocks(model_, engine_options(options))),
             .num_layers = c.num_layers,
             .vocab_size = c.vocab_size,
             .context = engine_->context(),
             .threads = pool_->num_threads(),
             .has_chat_template = chat_template_ != nullptr};
  }

  const ModelInfo& info() const override { return info_; }
  std::vector<int32_t> tokenize(const std::string& text) const override { return tokenizer().encode(text, false); }
  std::string detokenize(const std::vector<int32_t>& ids) const override { return tokenizer().decode(ids, false); }

  std::unique_ptr<Answer> submit(const Prompt& prompt, const Sampling& sampling) override {
    GenerationRequest request;
    if (!prompt.ids.empty())
      request.prompt = prompt.ids;
    else if (!prompt.messages_json.empty())
      request.prompt = ChatPrompt{.messages = parse_messages(prompt.messages_json)};
    else
      request.prompt = prompt.text;
    request.sampling = to_params(sampling);
    request.stop = sampling.stop;
    Frontend frontend(*engine_, tokenizer(), chat_template_.get(), model_.config().vocab_size);
    return std::make_unique<FrontendAnswer>(frontend.submit(request));
  }

  PerplexityResult perplexity(const PerplexityOptions& options,
                              const std::function<void(int, int, double)>& progress) override {
    return measure_perplexity(model_, tokenizer(), *pool_, options, progress);
  }
  LatencyResult latency(int prompt_tokens, int output_tokens) override {
    return measure_latency(model_, prompt_tokens, output_tokens);
  }

 private:
  static ModelOptions model_options(const LoadOptions& o) {
    return {.kv_bits = o.kv_bits,
            .max_positions = o.max_model_len,
            .max_batch_tokens = o.max_batch_tokens,
            .max_logit_rows = std::max(o.max_batch_seqs, std::min(o.max_batch_tokens, kLogitRows))};
  }
  static EngineOptions engine_options(const LoadOptions& o) {
    return {.max_batch_tokens = o.max_batch_tokens,
            .max_batch_seqs = std::min(o.max_batch_seqs, o.max_batch_tokens),
            .max_chunk = o.max_chunk,
            .kv_bytes = o.kv_memory,
            .prefix_cache = o.prefix_cache};
  }
  const Tokenizer& tokenizer() const {
    if (tokenizer_ == nullptr) throw_invalid("a model of random weights has no tokenizer: only benchmarks run on it");
    return *tokenizer_;
  }

  static constexpr int kLogitRows = 256;  // rows of logits that perplexity takes at a time

  std::shared_ptr<ThreadPool> pool_;
  std::unique_ptr<Backend> backend_;
  Checkpoint checkpoint_;
  Model model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;
  std::unique_ptr<Engine> engine_;
  ModelInfo info_;
};

}  // namespace

std::unique_ptr<LanguageModel> LanguageModel::load(const LoadOptions& options, const LayerProgress& progress) {
  if (options.model.empty() == options.dummy_weights.empty())
    throw_invalid("name either a model or a config for dummy weights");
  return std::make_unique<LoadedModel>(options, progress);
}

MemoryEstimate estimate_memory(const LoadOptions& options) {
  const Checkpoint checkpoint = open_checkpoint(options);
  const ModelConfig& c = checkpoint.config();
  const std::shared_ptr<ThreadPool> pool = std::make_shared<ThreadPool>(1);
  const std::unique_ptr<Backend> backend = make_backend(options.backend, options.isa, pool);
  const KvFormat kv = resolve_kv_format(c, options.kv_bits);
  MemoryEstimate e;
  e.weights = checkpoint.weight_bytes();
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
