// SPDX-License-Identifier: Apache-2.0
// Prompt or messages in, text out: everything of a request that is not the engine's business, on the caller's thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/engine.h"
#include "frontend/stop_strings.h"
#include "text/chat_template.h"
#include "text/detokenizer.h"

namespace comet {

struct ChatPrompt {
  nlohmann::ordered_json messages;  // [{"role": .., "content": ..}, ..]
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();
  bool add_generation_prompt = true;
};

struct GenerationRequest {
  std::variant<std::string, std::vector<int32_t>, ChatPrompt> prompt;
  SamplingParams sampling;
  int default_max_tokens = 0;  // where sampling has no max_tokens: as many as the context has room for, 0: no limit
  std::vector<std::string> stop;
  int priority = 0;
  std::string cache_salt;  // KV is shared between requests of one salt only
  // Log-probabilities of the prompt's tokens, too, and of one that ends the answer; needs sampling.logprobs.
  bool prompt_logprobs = false;
  // Called on the engine thread after each event that poll() can now take; must not block.
  std::function<void()> on_event;
};

// A token's share of the answer, when log-probabilities were asked for.
struct LogprobEntry {
  int32_t token = 0;
  float logprob = 0.0f;
  std::string text;
  std::vector<TokenLogprob> top;
};

// What became known of one choice.
struct TextDelta {
  int choice = 0;
  std::string text;
  std::vector<LogprobEntry> logprobs;
  FinishReason finish = FinishReason::none;  // not none: the last delta of this choice
  std::string error;
  int num_prompt = 0, num_output = 0;               // tokens, with the last delta
  int num_cached = 0;                               // prompt tokens that the prefix cache had
  double queued_s = 0.0;                            // from submission to the first step
  int num_tokens = 0;                               // output tokens that this delta stands for
  std::chrono::steady_clock::time_point time = {};  // when the engine made the last of them
};

// The answer to one request. Deltas are pulled; detokenization and stop strings happen in next() and poll(). One
// consumer at a time.
class Generation {
 public:
  ~Generation();  // cancels what still runs

  // Waits for the next delta; none once every choice had its last one.
  std::optional<TextDelta> next();
  // The same without waiting: none also when there is nothing yet.
  std::optional<TextDelta> poll();
  bool is_finished() const { return num_open_ == 0; }
  bool is_finished(int choice) const { return choices_[static_cast<size_t>(choice)].is_finished; }
  int num_choices() const { return static_cast<int>(choices_.size()); }
  // Of the prompt's tokens from the second one on, where they were asked for; complete with the first delta.
  const std::vector<LogprobEntry>& prompt_logprobs() const { return prompt_logprobs_; }
  // Ends every choice at the engine's next step; next() then returns their last deltas.
  void cancel();
  const std::vector<int32_t>& prompt_ids() const { return prompt_ids_; }
  // Token ids of a choice so far.
  const std::vector<int32_t>& output_ids(int choice) const { return choices_[static_cast<size_t>(choice)].output; }

 private:
  friend class Frontend;

  struct Arrival {
    int choice;
    SequenceEvent event;
    std::chrono::steady_clock::time_point time;
  };

  // Shared with the engine's sinks, which may outlive this object.
  struct Mailbox {
    std::mutex mutex;
    std::condition_variable ready;
    std::deque<Arrival> arrivals;
  };
  struct Choice {
    Engine::RequestId id = 0;
    std::unique_ptr<Detokenizer> detokenizer;
    std::unique_ptr<StopStrings> stops;
    std::vector<int32_t> output;
    int num_untold = 0;  // tokens since the last delta
    bool is_finished = false;
  };

  Generation(Engine& engine, const Tokenizer& tokenizer) : engine_(&engine), tokenizer_(&tokenizer) {}
  std::deque<Arrival>::iterator next_arrival();
  std::optional<TextDelta> digest(const Arrival& arrival);
  LogprobEntry entry(int32_t id, const TokenLogprobs& logprobs) const;

  Engine* engine_;
  const Tokenizer* tokenizer_;
  std::vector<int32_t> prompt_ids_;
  std::vector<LogprobEntry> prompt_logprobs_;
  bool wants_prompt_logprobs_ = false;
  std::vector<Choice> choices_;
  size_t num_open_ = 0;
  std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
};

class Frontend {
 public:
  // chat_template may be null.
  Frontend(Engine& engine, const Tokenizer& tokenizer, const ChatTemplate* chat_template, int vocab_size)
      : engine_(&engine), tokenizer_(&tokenizer), chat_template_(chat_template), vocab_size_(vocab_size) {}

  // Throws InvalidInput for what is wrong with the request (prompt too long, field out of range, no chat template).
  std::unique_ptr<Generation> submit(const GenerationRequest& request);

  std::vector<int32_t> prompt_ids(const GenerationRequest& request) const;

 private:
  Engine* engine_;
  const Tokenizer* tokenizer_;
  const ChatTemplate* chat_template_;
  int vocab_size_;
};

}  // namespace comet
