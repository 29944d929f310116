// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "api/evaluate.h"
#include "api/runtime.h"
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
  LoadedModel(const LoadOptions& options, const LayerProgress& progress) : r_(options, progress), info_(r_.info()) {}

  const ModelInfo& info() const override { return info_; }
  std::vector<int32_t> tokenize(const std::string& text) const override { return r_.tokenizer.encode(text, false); }
  std::string detokenize(const std::vector<int32_t>& ids) const override { return r_.tokenizer.decode(ids, false); }

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
    Frontend frontend(*r_.engine, r_.tokenizer, r_.chat_template.get(), r_.model.config().vocab_size);
    return std::make_unique<FrontendAnswer>(frontend.submit(request));
  }

  PerplexityResult perplexity(const PerplexityOptions& options,
                              const std::function<void(int, int, double)>& progress) override {
    return measure_perplexity(r_.model, r_.tokenizer, *r_.pool, options, progress);
  }
  LatencyResult latency(int prompt_tokens, int output_tokens) override {
    return measure_latency(r_.model, prompt_tokens, output_tokens);
  }

 private:
  Runtime r_;
  ModelInfo info_;
};

}  // namespace

std::unique_ptr<LanguageModel> LanguageModel::load(const LoadOptions& options, const LayerProgress& progress) {
  return std::make_unique<LoadedModel>(options, progress);
}

}  // namespace comet::api
