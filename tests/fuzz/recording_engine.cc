// SPDX-License-Identifier: Apache-2.0
#include "fuzz/recording_engine.h"

namespace comet {

std::vector<fuzz::Submitted>& fuzz::submitted() {
  static std::vector<Submitted> all;
  return all;
}

Engine::Engine(Model& model, const EngineOptions& options)
    : core_(model, options), context_(core_.scheduler().context()) {}

Engine::~Engine() = default;

Engine::RequestId Engine::submit(SequenceSpec spec, EventSink sink) {
  std::string refusal;
  try {
    core_.finish(core_.add(spec, [](const SequenceEvent&) {}), FinishReason::cancelled);
  } catch (const std::exception& e) {
    refusal = e.what();
  }
  fuzz::submitted().push_back({std::move(spec), std::move(sink), std::move(refusal)});
  return next_id_++;
}

void Engine::cancel(RequestId, FinishReason) {}
EngineStats Engine::stats() const { return stats_; }
std::string Engine::failure() const { return failure_; }

}  // namespace comet
