// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "base/process.h"

namespace comet {

Engine::Engine(Model& model, const EngineOptions& options)
    : core_(model, options),
      context_(core_.scheduler().context()),
      check_integrity_(options.check_integrity),
      stats_{.num_kv_blocks = core_.scheduler().blocks().num_blocks()},
      thread_([this] { loop(); }) {}

Engine::~Engine() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

Engine::RequestId Engine::submit(SequenceSpec spec, EventSink sink) {
  std::unique_lock lock(mutex_);
  const RequestId id = next_id_++;
  if (!failure_.empty() || stop_) {
    const std::string why = failure_.empty() ? "the engine is stopping" : failure_;
    lock.unlock();
    sink({.token = {}, .finish = FinishReason::error, .error = why});
    return id;
  }
  inbox_.emplace_back(Submit{id, std::move(spec), std::move(sink)});
  lock.unlock();
  wake_.notify_one();
  return id;
}

void Engine::cancel(RequestId id, FinishReason reason) {
  {
    std::lock_guard lock(mutex_);
    inbox_.emplace_back(Cancel{id, reason});
  }
  wake_.notify_one();
}

std::string Engine::failure() const {
  std::lock_guard lock(mutex_);
  return failure_;
}

void Engine::admit(Submit submit) {
  auto sink = std::make_shared<EventSink>(std::move(submit.sink));
  try {
    const SeqId seq = core_.add(std::move(submit.spec), [this, id = submit.id, sink](const SequenceEvent& event) {
      if (event.finish != FinishReason::none) sequences_.erase(id);
      (*sink)(event);
    });
    sequences_[submit.id] = seq;
  } catch (const std::exception& e) {
    (*sink)({.token = {}, .finish = FinishReason::error, .error = e.what()});
  }
}

bool Engine::take_inbox() {
  std::vector<std::variant<Submit, Cancel>> inbox;
  bool stop;
  {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return stop_ || !inbox_.empty() || core_.scheduler().has_work(); });
    inbox.swap(inbox_);
    stop = stop_;
  }
  for (auto& message : inbox) {
    if (auto* submit = std::get_if<Submit>(&message)) {
      admit(std::move(*submit));
    } else {
      const Cancel& cancel = std::get<Cancel>(message);
      if (const auto it = sequences_.find(cancel.id); it != sequences_.end()) core_.finish(it->second, cancel.reason);
    }
  }
  return !stop;
}

EngineStats Engine::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void Engine::note_step(const Step& step) {
  const Scheduler& s = core_.scheduler();
  const int num_tokens = step.num_tokens();
  std::lock_guard lock(mutex_);
  stats_.num_waiting = s.num_waiting();
  stats_.num_running = s.num_running();
  stats_.num_kv_blocks_used = s.blocks().num_used();
  stats_.num_preemptions = s.num_preemptions();
  stats_.num_admitted_tokens = s.num_admitted_tokens();
  stats_.num_cached_tokens = s.num_cached_tokens();
  if (num_tokens == 0) return;
  stats_.num_steps += 1;
  stats_.num_step_tokens += num_tokens;
  const size_t place = static_cast<size_t>(std::bit_width(static_cast<unsigned>(num_tokens - 1)));
  stats_.steps_by_size[std::min(place, stats_.steps_by_size.size() - 1)] += 1;
}

void Engine::loop() {
  name_thread("comet-engine");
  try {
    while (take_inbox()) {
      note_step(core_.step());
      if (check_integrity_) core_.scheduler().check_integrity();
    }
    core_.fail_all("the engine is stopping");
  } catch (const std::exception& e) {
    std::vector<std::variant<Submit, Cancel>> inbox;
    {
      std::lock_guard lock(mutex_);
      failure_ = std::string("the engine failed: ") + e.what();
      inbox.swap(inbox_);
    }
    core_.fail_all(failure_);
    for (auto& message : inbox)
      if (auto* submit = std::get_if<Submit>(&message))
        submit->sink({.token = {}, .finish = FinishReason::error, .error = failure_});
  }
}

}  // namespace comet
