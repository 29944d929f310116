// SPDX-License-Identifier: Apache-2.0
// A loaded model with everything that answers requests; built in the order of the members.
#pragma once

#include <memory>

#include "api/composition.h"
#include "engine/engine.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace comet::api {

struct Runtime {
  // Throws InvalidInput for what is wrong with options or files.
  Runtime(const LoadOptions& options, const LayerProgress& progress);

  ModelInfo info() const;

  std::shared_ptr<ThreadPool> pool;
  std::unique_ptr<Backend> backend;
  Checkpoint checkpoint;
  Model model;
  Tokenizer tokenizer;                          // of random weights: a token's text is its number
  std::unique_ptr<ChatTemplate> chat_template;  // null: the model has none
  std::unique_ptr<Engine> engine;
};

EngineOptions engine_options(const LoadOptions& options);

}  // namespace comet::api
