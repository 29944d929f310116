// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include "base/check.h"

namespace comet {

Engine::Engine(Model& model, const EngineOptions& options)
    : core_(model, options), context_(core_.scheduler().context()), thread_([this] { loop(); }) {}

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
  num_waiting_ = core_.scheduler().num_waiting();
  num_running_ = core_.scheduler().num_running();
  return !stop;
}

void Engine::loop() {
  try {
    while (take_inbox()) core_.step();
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
