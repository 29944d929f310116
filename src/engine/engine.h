// SPDX-License-Identifier: Apache-2.0
// The engine with its thread: anyone may submit and cancel; steps run one after another on the engine's own thread.
//
// Ownership: the engine thread alone touches model, scheduler and sinks' callbacks. submit() and cancel() put a message
// in the inbox; the thread takes the inbox before every step. A sink is called on the engine thread and must not block;
// its last event (finish != none) comes exactly once, also when the engine fails or is destroyed.
#pragma once

#include <array>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <variant>
#include <vector>

#include "engine/engine_core.h"

namespace comet {

// What the engine has done and does, as of its last step.
struct EngineStats {
  int num_waiting = 0, num_running = 0;
  int num_kv_blocks = 0, num_kv_blocks_used = 0;
  int64_t num_preemptions = 0;
  int64_t num_admitted_tokens = 0, num_cached_tokens = 0;  // of admitted sequences, and what the prefix cache had
  int64_t num_steps = 0, num_step_tokens = 0;
  std::array<int64_t, 16> steps_by_size = {};  // [i]: steps of at most 2^i tokens that do not fit the place before
};

class Engine {
 public:
  Engine(Model& model, const EngineOptions& options);
  // What still runs ends with an error event; then joins.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  using RequestId = uint64_t;

  // A refused sequence gets its last event, too: finish == error, with what was wrong.
  RequestId submit(SequenceSpec spec, EventSink sink);
  void cancel(RequestId id, FinishReason reason = FinishReason::cancelled);

  EngineStats stats() const;
  // Longest prompt + output of one sequence.
  int context() const { return context_; }
  // Not empty: why the engine stopped; submit() answers every request with it.
  std::string failure() const;

 private:
  struct Submit {
    RequestId id;
    SequenceSpec spec;
    EventSink sink;
  };
  struct Cancel {
    RequestId id;
    FinishReason reason;
  };

  void loop();
  bool take_inbox();  // false: stop
  void admit(Submit submit);
  void note_step(const Step& step);

  EngineCore core_;
  int context_;
  bool check_integrity_;
  std::map<RequestId, SeqId> sequences_;  // engine thread
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::variant<Submit, Cancel>> inbox_;
  std::string failure_;
  bool stop_ = false;
  RequestId next_id_ = 1;
  EngineStats stats_;
  std::thread thread_;
};

}  // namespace comet
