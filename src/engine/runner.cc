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
    const int first_row = batch.num_tokens() - chunk.count - chunk.first;  // of the sequence's token 0, were it here
    for (int i = 0; i < chunk.num_prompt_rows; ++i) batch.logit_rows.push_back(first_row + chunk.first_prompt_row + i);
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
    const Sequence& s = scheduler.sequence(chunk.seq);
    const auto next_row = [&] { return std::span(forward.logits).subspan(logit_row++ * vocab, vocab); };
    for (int j = 0; j < chunk.num_prompt_rows; ++j) {
      const std::span<const float> logits = next_row();
      const int32_t next = s.tokens[static_cast<size_t>(chunk.first_prompt_row + j + 1)];
      if (result.error.empty()) result.prompt_logprobs.push_back(token_logprobs(logits, next, *s.prompt_logprobs));
    }
    if (!chunk.samples) continue;
    const std::span<const float> logits = next_row();
    if (!result.error.empty()) continue;
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
