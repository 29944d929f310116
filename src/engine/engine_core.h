// SPDX-License-Identifier: Apache-2.0
// The engine without its thread: schedule -> run -> commit, one step a call.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "engine/runner.h"

namespace comet {

struct EngineOptions {
  int max_batch_tokens = 512;
  int max_batch_seqs = 64;
  int max_chunk = 0;    // longest prefill chunk; 0: the token budget
  size_t kv_bytes = 0;  // memory of the KV cache; 0: enough for max_batch_seqs sequences, within 1 GiB
  bool prefix_cache = true;
  int preempt_every = 0;         // tests
  bool check_integrity = false;  // tests: the bookkeeping after every step; an error of it is a failure of the engine
};

// What happened to one sequence in one step.
struct SequenceEvent {
  SeqId id = 0;
  std::optional<SampledToken> token;  // the next output token; with finish == stop it is the stop token
  // Of the prompt's next tokens, where they were asked for; all come before the first token.
  std::vector<TokenLogprobs> prompt_logprobs = {};
  FinishReason finish = FinishReason::none;  // not none: the last event of this sequence
  std::string error;                         // finish == error
  int num_prompt = 0, num_output = 0;        // tokens, with the last event
  int num_cached = 0;                        // prompt tokens that the prefix cache had
  double queued_s = 0.0;                     // from add() to its first step
};

using EventSink = std::function<void(const SequenceEvent&)>;

class EngineCore {
 public:
  // Throws InvalidInput when the options leave no room for one sequence.
  EngineCore(Model& model, const EngineOptions& options);

  // Every sequence that add() takes gets exactly one last event on its sink. Throws InvalidInput / InvalidParameter.
  SeqId add(SequenceSpec spec, EventSink sink);
  // Ends a sequence; its sink gets the last event now. Does nothing when it has ended.
  void finish(SeqId id, FinishReason reason, const std::string& error = {});
  // Runs one step, empty when there was nothing to do, and returns it. Sinks are called from here.
  // An exception of the model leaves through here; then fail_all() tells everybody.
  Step step();
  void fail_all(const std::string& error);

  const Scheduler& scheduler() const { return *scheduler_; }
  Runner& runner() { return runner_; }
  const KvPool& kv_pool() const { return pool_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Client {
    EventSink sink;
    Clock::time_point added;
    std::optional<Clock::time_point> started;
  };

  void tell_end(const Sequence& s, SequenceEvent event);
  void tell(const Client& client, SequenceEvent event);

  Model* model_;
  KvPool pool_;
  std::unique_ptr<Scheduler> scheduler_;
  Runner runner_;
  std::map<SeqId, Client> clients_;
};

// kv_blocks that `options` give this model. Throws InvalidInput when not even one fits.
int num_kv_blocks(const Model& model, const EngineOptions& options);

}  // namespace comet
