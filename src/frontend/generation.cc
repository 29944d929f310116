// SPDX-License-Identifier: Apache-2.0
#include "frontend/generation.h"

#include <algorithm>

#include "base/check.h"
#include "engine/random.h"

namespace comet {

Generation::~Generation() { cancel(); }

void Generation::cancel() {
  for (const Choice& choice : choices_)
    if (!choice.is_finished) engine_->cancel(choice.id);
}

// Under the mailbox's lock. Until the first choice has brought the prompt's log-probabilities, the others wait.
std::deque<Generation::Arrival>::iterator Generation::next_arrival() {
  std::deque<Arrival>& arrivals = mailbox_->arrivals;
  if (!wants_prompt_logprobs_ || is_finished(0) || prompt_logprobs_.size() + 1 >= prompt_ids_.size())
    return arrivals.begin();
  return std::find_if(arrivals.begin(), arrivals.end(), [](const Arrival& a) { return a.choice == 0; });
}

std::optional<TextDelta> Generation::next() {
  while (num_open_ > 0) {
    {
      std::unique_lock lock(mailbox_->mutex);
      mailbox_->ready.wait(lock, [this] { return next_arrival() != mailbox_->arrivals.end(); });
    }
    if (std::optional<TextDelta> delta = poll()) return delta;
  }
  return std::nullopt;
}

std::optional<TextDelta> Generation::poll() {
  while (num_open_ > 0) {
    Arrival arrival;
    {
      std::lock_guard lock(mailbox_->mutex);
      const auto it = next_arrival();
      if (it == mailbox_->arrivals.end()) return std::nullopt;
      arrival = std::move(*it);
      mailbox_->arrivals.erase(it);
    }
    if (std::optional<TextDelta> delta = digest(arrival)) return delta;
  }
  return std::nullopt;
}

// Nothing when the event changes nothing that the client sees.
std::optional<TextDelta> Generation::digest(const Arrival& arrival) {
  const SequenceEvent& event = arrival.event;
  Choice& choice = choices_[static_cast<size_t>(arrival.choice)];
  if (choice.is_finished) return std::nullopt;
  TextDelta delta{.choice = arrival.choice,
                  .text = {},
                  .logprobs = {},
                  .finish = event.finish,
                  .error = event.error,
                  .num_prompt = static_cast<int>(prompt_ids_.size()),
                  .num_output = static_cast<int>(choice.output.size()),
                  .num_cached = event.num_cached,
                  .queued_s = event.queued_s,
                  .num_tokens = 0,
                  .time = arrival.time};
  for (const TokenLogprobs& logprobs : event.prompt_logprobs)
    prompt_logprobs_.push_back(entry(prompt_ids_[prompt_logprobs_.size() + 1], logprobs));
  bool stopped = false;
  if (event.token) {
    const int32_t id = event.token->token;
    choice.output.push_back(id);
    choice.num_untold += 1;
    delta.num_output = static_cast<int>(choice.output.size());
    const bool is_text =
        event.finish != FinishReason::stop && tokenizer_->has_id(id);  // a stop token is not part of the answer
    if (is_text) {
      StopStrings::Found found = choice.stops->push(choice.detokenizer->push(id));
      delta.text = std::move(found.text);
      stopped = found.stopped;
    }
    if (event.token->logprobs && (event.finish != FinishReason::stop || wants_prompt_logprobs_))
      delta.logprobs.push_back(entry(id, *event.token->logprobs));
  }
  if (!stopped && event.finish != FinishReason::none) {
    StopStrings::Found found = choice.stops->push(choice.detokenizer->flush());
    delta.text += found.text;
    if (found.stopped)
      delta.finish = FinishReason::stop;
    else
      delta.text += choice.stops->flush();
  }
  if (stopped) {
    delta.finish = FinishReason::stop;
    engine_->cancel(choice.id, FinishReason::stop);
  }
  if (delta.finish != FinishReason::none) {
    choice.is_finished = true;
    --num_open_;
  }
  if (delta.text.empty() && delta.logprobs.empty() && delta.finish == FinishReason::none) return std::nullopt;
  delta.num_tokens = std::exchange(choice.num_untold, 0);
  return delta;
}

LogprobEntry Generation::entry(int32_t id, const TokenLogprobs& logprobs) const {
  return {.token = id,
          .logprob = logprobs.logprob,
          .text = tokenizer_->has_id(id) ? tokenizer_->token_bytes(id) : "",
          .top = logprobs.top};
}

std::vector<int32_t> Frontend::prompt_ids(const GenerationRequest& request) const {
  if (const auto* text = std::get_if<std::string>(&request.prompt)) return tokenizer_->encode(*text);
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&request.prompt)) return *ids;
  if (chat_template_ == nullptr)
    throw_invalid("this model has no chat template; name one with --chat-template FILE, or use completions");
  const ChatPrompt& chat = std::get<ChatPrompt>(request.prompt);
  return tokenizer_->encode(chat_template_->render(chat.messages, chat.add_generation_prompt, chat.variables), false);
}

std::unique_ptr<Generation> Frontend::submit(const GenerationRequest& request) {
  validate(request.sampling, vocab_size_);
  std::unique_ptr<Generation> generation(new Generation(*engine_, *tokenizer_));
  generation->prompt_ids_ = prompt_ids(request);
  generation->wants_prompt_logprobs_ = request.prompt_logprobs;
  const std::vector<int32_t>& prompt = generation->prompt_ids_;
  if (prompt.empty()) throw_invalid("the prompt is empty: it must have at least one token");
  for (const int32_t id : prompt)
    if (id < 0 || id >= vocab_size_) throw_invalid("the prompt's token {} is not in 0..{}", id, vocab_size_ - 1);
  const int context = engine_->context(), num_prompt = static_cast<int>(prompt.size());
  if (num_prompt >= context)
    throw_invalid("the prompt has {} tokens; with one token to generate the context of {} tokens is exceeded",
                  num_prompt, context);
  if (request.sampling.max_tokens && *request.sampling.max_tokens > context - num_prompt)
    throw_invalid("the prompt's {} tokens and max_tokens {} exceed the context of {} tokens", num_prompt,
                  *request.sampling.max_tokens, context);
  SamplingParams params = request.sampling;
  if (!params.max_tokens && request.default_max_tokens > 0) {
    params.max_tokens = std::min(std::max(request.default_max_tokens, params.min_tokens), context - num_prompt);
    params.min_tokens = std::min(params.min_tokens, *params.max_tokens);
  }
  const uint64_t seed = request.sampling.seed ? *request.sampling.seed : draw_seed();
  generation->choices_.resize(static_cast<size_t>(request.sampling.n));
  generation->num_open_ = generation->choices_.size();
  for (int i = 0; i < request.sampling.n; ++i) {
    Generation::Choice& choice = generation->choices_[static_cast<size_t>(i)];
    choice.detokenizer = std::make_unique<Detokenizer>(*tokenizer_, prompt);
    choice.stops = std::make_unique<StopStrings>(request.stop);
  }
  for (int i = 0; i < request.sampling.n; ++i) {
    SequenceSpec spec{.prompt = prompt,
                      .params = params,
                      .seed = seed,
                      .choice_idx = static_cast<uint32_t>(i),
                      .priority = request.priority,
                      .cache_salt = request.cache_salt,
                      .prompt_logprobs = request.prompt_logprobs && i == 0 ? request.sampling.logprobs : std::nullopt};
    generation->choices_[static_cast<size_t>(i)].id = engine_->submit(
        std::move(spec), [box = generation->mailbox_, i, tell = request.on_event](const SequenceEvent& e) {
          const auto now = std::chrono::steady_clock::now();
          {
            std::lock_guard lock(box->mutex);
            box->arrivals.push_back({i, e, now});
          }
          box->ready.notify_one();
          if (tell) tell();
        });
  }
  return generation;
}

}  // namespace comet
