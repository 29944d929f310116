// SPDX-License-Identifier: Apache-2.0
// Runs a step on the model and samples: the only place of the engine that knows a device.
#pragma once

#include <functional>
#include <string>

#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "model/model.h"

namespace comet {

// What one chunk of a step gave.
struct ChunkResult {
  SampledToken sampled;                        // when the chunk samples
  std::vector<TokenLogprobs> prompt_logprobs;  // of the tokens after chunk.first_prompt_row, ..
  std::string error;                           // not empty: the sequence must end; names layer and site
};

// Sees every row of logits before it is sampled; for tests (hashes) and evaluation.
using LogitsObserver = std::function<void(const Sequence& sequence, int position, std::span<const float> logits)>;

class Runner {
 public:
  Runner(Model& model, KvPool& pool, std::vector<int32_t> eos_token_ids)
      : model_(&model), pool_(&pool), eos_token_ids_(std::move(eos_token_ids)) {}

  // One result a chunk, in order.
  std::vector<ChunkResult> run(const Step& step, const Scheduler& scheduler);

  void set_observer(LogitsObserver observer) { observer_ = std::move(observer); }

 private:
  Model* model_;
  KvPool* pool_;
  std::vector<int32_t> eos_token_ids_;
  Sampler sampler_;
  LogitsObserver observer_;
};

}  // namespace comet
