// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <ctime>
#include <span>

#include "server/service.h"

namespace comet::server {
namespace {

// Clients of one key share KV, those of different ones do not learn of each other's prompts.
std::string salt_of(const std::string& client, const std::string& cache_salt) {
  return client.empty() && cache_salt.empty() ? std::string() : client + '\0' + cache_salt;
}

// Some templates open the thinking themselves.
bool opens_thinking(const Tokenizer& tokenizer, std::span<const int32_t> prompt) {
  constexpr size_t kTail = 16;  // tokens: enough for the tag and white space
  std::string tail = tokenizer.decode(prompt.last(std::min(prompt.size(), kTail)), false);
  tail.erase(tail.find_last_not_of(" \t\r\n") + 1);
  return tail.ends_with("<think>");
}

// Leaves nothing of the token that the engine makes for a request of none.
void drop_output(TextDelta& delta) {
  delta.text.clear();
  delta.logprobs.clear();
  delta.num_tokens = delta.num_output = 0;
  if (delta.finish == FinishReason::stop) delta.finish = FinishReason::length;
}

}  // namespace

ActiveCompletion::ActiveCompletion(Service& service, CompletionRequest request, const std::string& client,
                                   const std::string& id, std::function<void()> on_event)
    : service_(&service),
      request_(std::move(request)),
      response_(request_, *service.model_for_request(request_.model).tokenizer, id,
                request_.model.empty() ? service.model_.names.front() : request_.model,
                static_cast<int64_t>(std::time(nullptr))) {
  if (request_.priority != 0 && !service.options_.obeys_priority)
    throw bad_field("priority", "this server runs requests in their order (--scheduling-policy fcfs)");
  const ServedModel& model = service.model_;
  Frontend frontend(*model.engine, *model.tokenizer, model.chat_template, model.vocab_size);
  GenerationRequest g{.prompt = {},
                      .sampling = request_.params,
                      .default_max_tokens = request_.default_max_tokens,
                      .stop = request_.stop,
                      .priority = request_.priority,
                      .cache_salt = salt_of(client, request_.cache_salt),
                      .on_event = std::move(on_event)};
  const bool is_chat = request_.endpoint == Endpoint::chat;
  const int num_prompts = is_chat ? 1 : static_cast<int>(request_.prompts.size()), n = request_.params.n;
  service.reserve(num_prompts * n);
  num_reserved_ = num_prompts * n;
  has_begun_.resize(static_cast<size_t>(num_reserved_));
  try {
    for (int p = 0; p < num_prompts; ++p) {
      if (is_chat) {
        g.prompt = ChatPrompt{request_.messages, request_.template_variables, request_.add_generation_prompt};
      } else {
        std::visit([&](const auto& prompt) { g.prompt = prompt; }, request_.prompts[static_cast<size_t>(p)]);
      }
      g.prompt_logprobs = request_.echo && request_.wants_logprobs();
      Part part{.generation = frontend.submit(g),
                .last_token = std::vector(static_cast<size_t>(n), start_),
                .echoed = {},
                .is_thinking = false};
      const std::vector<int32_t>& ids = part.generation->prompt_ids();
      usage_.num_prompt += static_cast<int>(ids.size());
      num_open_ += n;
      if (request_.echo) {
        const auto* text = std::get_if<std::string>(&g.prompt);
        part.echoed = text != nullptr ? *text : model.tokenizer->decode(ids);
      }
      part.is_thinking = is_chat && service.options_.splits_reasoning && opens_thinking(*model.tokenizer, ids);
      parts_.push_back(std::move(part));
    }
  } catch (...) {
    service_->num_open_ -= num_reserved_;
    throw;
  }
}

ActiveCompletion::~ActiveCompletion() {
  service_->num_open_ -= num_reserved_;
  for (const Part& part : parts_)
    for (int i = 0; i < part.generation->num_choices(); ++i)
      if (!part.generation->is_finished(i))
        service_->metrics()->finished({.reason = "cancelled",
                                       .num_prompt = static_cast<int>(part.generation->prompt_ids().size()),
                                       .num_output = static_cast<int>(part.generation->output_ids(i).size()),
                                       .seconds = Seconds(Clock::now() - start_).count()});
}

void ActiveCompletion::note(Part& part, const TextDelta& delta) {
  Metrics& metrics = *service_->metrics();
  Clock::time_point& last = part.last_token[static_cast<size_t>(delta.choice)];
  if (delta.num_tokens > 0) {
    const double seconds = Seconds(delta.time - last).count();
    const bool is_first = delta.num_output == delta.num_tokens;
    if (is_first)
      metrics.first_tokens(seconds, delta.num_tokens);
    else
      metrics.more_tokens(seconds, delta.num_tokens);
    last = delta.time;
    usage_.num_output += delta.num_tokens;
  }
  if (delta.finish == FinishReason::none) return;
  num_open_ -= 1;
  finish_ = delta.finish;
  if (delta.choice == 0) usage_.num_cached += delta.num_cached;
  if (delta.finish == FinishReason::error) error_ = delta.error;
  metrics.finished({.reason = to_string(delta.finish),
                    .num_prompt = delta.num_prompt,
                    .num_output = delta.num_output,
                    .queued_s = delta.queued_s,
                    .seconds = Seconds(delta.time - start_).count()});
}

// What an answer begins with, some of which is known with the first delta only.
void ActiveCompletion::begin_choice(const Part& part, int index) {
  if (has_begun_[static_cast<size_t>(index)]) return;
  response_.begin_with(index, part.echoed);
  const std::vector<int32_t>& ids = part.generation->prompt_ids();
  if (request_.echo && request_.wants_logprobs())
    response_.begin_with_logprobs(index, ids.front(), part.generation->prompt_logprobs());
  if (request_.endpoint == Endpoint::chat && service_->options_.splits_reasoning)
    response_.split_reasoning(index, part.is_thinking);
}

// Gives every delta there is to take(index, delta) until it answers false.
template <typename Take>
bool ActiveCompletion::take_deltas(const Take& take) {
  for (size_t p = 0; p < parts_.size(); ++p) {
    Part& part = parts_[p];
    while (std::optional<TextDelta> delta = part.generation->poll()) {
      if (request_.is_prompt_only) drop_output(*delta);
      note(part, *delta);
      const int index = static_cast<int>(p) * request_.params.n + delta->choice;
      begin_choice(part, index);
      if (!take(index, *delta)) return false;
    }
  }
  return true;
}

std::string ActiveCompletion::poll_events(size_t most) {
  std::string out;
  if (is_closed_) return out;
  take_deltas([&](int index, const TextDelta& delta) {
    if (!has_begun_[static_cast<size_t>(index)]) out += response_.opening_event(index);
    has_begun_[static_cast<size_t>(index)] = true;
    out += delta.finish == FinishReason::error ? sse_event(to_json(ApiError(500, "generation_failed", delta.error)))
                                               : response_.event(index, delta, usage_);
    return out.size() < most;
  });
  if (!is_finished()) return out;
  is_closed_ = true;
  if (request_.include_usage) out += response_.usage_event(usage_);
  return out + kSseDone;
}

void ActiveCompletion::collect() {
  take_deltas([&](int index, const TextDelta& delta) {
    has_begun_[static_cast<size_t>(index)] = true;
    response_.add(index, delta);
    return true;
  });
  if (!error_.empty()) throw ApiError(500, "generation_failed", error_);
}

void ActiveCompletion::cancel() {
  for (Part& part : parts_) part.generation->cancel();
}

std::string ActiveCompletion::closing_events(const ApiError& why) const { return sse_event(to_json(why)) + kSseDone; }

}  // namespace comet::server
