// SPDX-License-Identifier: Apache-2.0
#include "engine/runner.h"

#include "base/check.h"

namespace comet {

std::vector<ChunkResult> Runner::run(const Step& step, const Scheduler& scheduler) {
  HostBatch batch;
  for (const Chunk& chunk : step.chunks) {
    const Sequence& s = scheduler.sequence(chunk.seq);
    batch.add_sequence(std::span(s.tokens).subspan(static_cast<size_t>(chunk.first), static_cast<size_t>(chunk.count)),
                       chunk.first, s.block_table);
    if (chunk.samples) batch.logit_rows.push_back(batch.num_tokens() - 1);
  }
  const ForwardResult forward = model_->forward(batch, *pool_);

  std::vector<ChunkResult> results(step.chunks.size());
  const size_t vocab = static_cast<size_t>(model_->config().vocab_size);
  size_t token = 0, logit_row = 0;
  for (size_t i = 0; i < step.chunks.size(); ++i) {
    const Chunk& chunk = step.chunks[i];
    ChunkResult& result = results[i];
    for (int j = 0; j < chunk.count; ++j, ++token)
      if (forward.row_errors[token] != 0 && result.error.empty())
        result.error =
            fmt::format("{}, at position {}", describe_error_tag(forward.row_errors[token]), chunk.first + j);
    if (!chunk.samples) continue;
    const std::span<const float> logits = std::span(forward.logits).subspan(logit_row++ * vocab, vocab);
    if (!result.error.empty()) continue;
    const Sequence& s = scheduler.sequence(chunk.seq);
    if (observer_) observer_(s, chunk.first + chunk.count - 1, logits);
    result.sampled = sampler_.sample({.logits = logits,
                                      .params = &s.params,
                                      .prompt = s.prompt(),
                                      .output = s.output(),
                                      .eos_token_ids = eos_token_ids_,
                                      .allowed = {},
                                      .seed = s.seed,
                                      .choice_idx = s.choice_idx});
  }
  return results;
}

}  // namespace comet
