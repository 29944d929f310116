// SPDX-License-Identifier: Apache-2.0
// A request's body to engine requests, as the routes do it: a client's mistake is the only thing that may be refused,
// and what is accepted is within the ranges that the engine is promised and means the same when written out again.
//
// The first byte of an input is the route: 'c' chat, 'p' completions, 't' tokenize, 'd' detokenize.
#include <algorithm>
#include <optional>

#include "fuzz/fuzz.h"
#include "fuzz/served_model.h"
#include "server/routes.h"

namespace comet::server {
namespace {

const SamplingDefaults kDefaults = {
    .temperature = 0.5, .top_p = 0.9, .min_p = {}, .repetition_penalty = 1.1, .top_k = 20, .max_tokens = 7};

// Runs `call`; the client's error when it refuses. Any other status than 4xx and "try again" is a bug.
template <typename Call>
std::optional<ApiError> refusal(const Call& call) {
  try {
    call();
    return std::nullopt;
  } catch (const std::exception& e) {
    const ApiError error = to_api_error(e);
    FUZZ_CHECK(error.status() / 100 == 4 || error.status() == 503, "{}: {}", error.status(), e.what());
    const Json told = Json::parse(error_reply(error).body);
    FUZZ_CHECK(!told["error"]["message"].get<std::string>().empty());
    return error;
  }
}

using fuzz::kContext;

auto fields_of(const SamplingParams& p) {
  return std::tie(p.temperature, p.top_k, p.top_p, p.min_p, p.repetition_penalty, p.presence_penalty,
                  p.frequency_penalty, p.logit_bias, p.seed, p.n, p.max_tokens, p.min_tokens, p.stop_token_ids,
                  p.ignore_eos, p.logprobs);
}

auto fields_of(const CompletionRequest& r) {
  return std::tie(r.model, r.prompts, r.messages, r.template_variables, r.add_generation_prompt, r.stop, r.stream,
                  r.include_usage, r.continuous_usage, r.echo, r.is_prompt_only, r.priority, r.cache_salt);
}

void check_parsed(Endpoint endpoint, const CompletionRequest& r, const Json& body) {
  const CompletionRequest again = parse_completion_request(endpoint, parse_json(dump(body)), kDefaults);
  FUZZ_CHECK(fields_of(again) == fields_of(r) && fields_of(again.params) == fields_of(r.params));
  FUZZ_CHECK(r.endpoint == endpoint && r.prompts.empty() == (endpoint == Endpoint::chat));
  for (const Json& message : r.messages) {
    FUZZ_CHECK(message["role"].is_string() && message["role"] != "developer");
    FUZZ_CHECK(message["content"].is_string() || message["content"].is_null());
  }
  for (const std::string& stop : r.stop) FUZZ_CHECK(!stop.empty());
}

void check_submitted(const CompletionRequest& r) {
  const std::vector<fuzz::Submitted>& all = fuzz::submitted();
  const size_t num_prompts = r.endpoint == Endpoint::chat ? 1 : r.prompts.size(), n = static_cast<size_t>(r.params.n);
  FUZZ_CHECK(all.size() == num_prompts * n, "{} sequences of {} prompts", all.size(), num_prompts);
  for (size_t i = 0; i < all.size(); ++i) {
    const SequenceSpec& spec = all[i].spec;
    FUZZ_CHECK(all[i].refusal.empty(), "{}", all[i].refusal);
    FUZZ_CHECK(!spec.prompt.empty() && spec.choice_idx == i % n && spec.priority == r.priority);
    SamplingParams expected = r.params;
    if (!expected.max_tokens) {  // the model's default, which gives way to the context
      expected.max_tokens = spec.params.max_tokens;
      expected.min_tokens = std::min(expected.min_tokens, spec.params.max_tokens.value_or(0));
      FUZZ_CHECK(expected.max_tokens && *expected.max_tokens + static_cast<int>(spec.prompt.size()) <= kContext);
    }
    FUZZ_CHECK(fields_of(spec.params) == fields_of(expected));
    FUZZ_CHECK(spec.seed == (r.params.seed ? *r.params.seed : all[i / n * n].spec.seed));
    FUZZ_CHECK(spec.cache_salt.ends_with(r.cache_salt));
    FUZZ_CHECK(!spec.prompt_logprobs || (r.echo && r.wants_logprobs() && spec.choice_idx == 0));
    if (r.endpoint == Endpoint::completions)
      if (const auto* ids = std::get_if<std::vector<int32_t>>(&r.prompts[i / n])) FUZZ_CHECK(spec.prompt == *ids);
  }
}

void run_completion(Endpoint endpoint, const Json& body) {
  std::optional<CompletionRequest> request;
  if (refusal([&] { request = parse_completion_request(endpoint, body, kDefaults); })) return;
  check_parsed(endpoint, *request, body);
  Service& service = fuzz::served().service();
  fuzz::submitted().clear();
  std::optional<ActiveCompletion> active;
  if (!refusal([&] { active.emplace(service, *request, "client", "id", [] {}); })) {
    check_submitted(*request);
    FUZZ_CHECK(service.num_open() == static_cast<int>(fuzz::submitted().size()) && !active->is_finished());
    active->cancel();
  }
  active.reset();
  fuzz::submitted().clear();
  FUZZ_CHECK(service.num_open() == 0);
}

void run(const std::string& input) {
  if (input.empty()) return;
  Json body;
  if (refusal([&] { body = parse_json(input.substr(1)); })) return;
  const fuzz::Served& served = fuzz::served();
  Service& service = fuzz::served().service();
  switch (input[0]) {
    case 'c': return run_completion(Endpoint::chat, body);
    case 'p': return run_completion(Endpoint::completions, body);
    case 't':
      refusal([&] {
        const Json told = service.tokenize(body);
        const auto ids = told["tokens"].get<std::vector<int32_t>>();
        FUZZ_CHECK(told["count"] == ids.size());
        // Bytes are tokens, so that nothing is lost on the way.
        if (body.contains("prompt") && !body.contains("messages"))
          FUZZ_CHECK(served.tokenizer().decode(ids, false) == body["prompt"]);
      });
      return;
    case 'd':
      refusal([&] {
        const Json told = service.detokenize(body);
        FUZZ_CHECK(told.begin()->is_string());
        parse_json(dump(told));
      });
      return;
    default: return;
  }
}

}  // namespace
}  // namespace comet::server

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  comet::server::run(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
