// SPDX-License-Identifier: Apache-2.0
#include "engine/engine_core.h"

#include <algorithm>

#include "base/check.h"
#include "engine/random.h"

namespace comet {
namespace {

constexpr size_t kDefaultKvBytes = size_t{1} << 30;

SchedulerOptions scheduler_options(const Model& model, const EngineOptions& options, int num_blocks) {
  const int max_batch_tokens = std::min(options.max_batch_tokens, model.options().max_batch_tokens);
  return {.num_kv_blocks = num_blocks,
          .block_size = kKvBlock,
          .max_model_len = model.options().max_positions,
          .max_batch_tokens = max_batch_tokens,
          .max_batch_seqs = std::min({options.max_batch_seqs, max_batch_tokens, model.options().max_logit_rows - 1}),
          .max_chunk = options.max_chunk,
          .max_logit_rows = model.options().max_logit_rows,
          .eos_token_ids = model.config().eos_ids,
          .prefix_cache_seed = options.prefix_cache ? std::optional(draw_seed()) : std::nullopt,
          .preempt_every = options.preempt_every};
}

}  // namespace

int num_kv_blocks(const Model& model, const EngineOptions& options) {
  const size_t block = KvPool::block_bytes(model.backend(), model.config(), model.kv_format());
  const size_t per_seq = static_cast<size_t>((model.options().max_positions + kKvBlock - 1) / kKvBlock);
  if (options.kv_bytes != 0) {
    if (options.kv_bytes < block)
      throw_invalid("{} bytes of KV memory hold no kv_block: one block of {} positions takes {} bytes",
                    options.kv_bytes, kKvBlock, block);
    // Blocks that no sequence can need are of use to the prefix cache only.
    const size_t most =
        options.prefix_cache ? size_t{INT32_MAX} / kKvBlock : per_seq * static_cast<size_t>(options.max_batch_seqs);
    return static_cast<int>(std::min(options.kv_bytes / block, most));
  }
  const size_t wanted = per_seq * static_cast<size_t>(options.max_batch_seqs);
  return static_cast<int>(std::max(per_seq, std::min(wanted, kDefaultKvBytes / block)));
}

EngineCore::EngineCore(Model& model, const EngineOptions& options)
    : model_(&model),
      pool_(model.backend(), model.config(), model.kv_format(), num_kv_blocks(model, options)),
      scheduler_(std::make_unique<Scheduler>(scheduler_options(model, options, pool_.num_blocks()))),
      runner_(model, pool_, model.config().eos_ids) {}

SeqId EngineCore::add(SequenceSpec spec, EventSink sink) {
  validate(spec.params, model_->config().vocab_size);
  for (const int32_t id : spec.prompt)
    if (id < 0 || id >= model_->config().vocab_size)
      throw_invalid("token id {} is outside the model's vocabulary of {}", id, model_->config().vocab_size);
  const SeqId id = scheduler_->add(std::move(spec));
  clients_.emplace(id, Client{std::move(sink), Clock::now(), {}});
  return id;
}

void EngineCore::finish(SeqId id, FinishReason reason, const std::string& error) {
  if (!clients_.contains(id)) return;
  scheduler_->finish(id, reason);
  tell_end(scheduler_->take(id), {.id = id, .token = {}, .finish = reason, .error = error});
}

void EngineCore::tell_end(const Sequence& s, SequenceEvent event) {
  event.num_prompt = s.num_prompt;
  event.num_output = s.num_output();
  event.num_cached = s.num_cached;
  const auto node = clients_.extract(s.id);
  tell(node.mapped(), std::move(event));
}

void EngineCore::tell(const Client& client, SequenceEvent event) {
  const Clock::time_point until = client.started.value_or(Clock::now());
  event.queued_s = std::chrono::duration<double>(until - client.added).count();
  client.sink(event);
}

Step EngineCore::step() {
  Step step = scheduler_->schedule();
  if (step.empty()) return step;
  for (const Chunk& chunk : step.chunks)
    if (Client& client = clients_.at(chunk.seq); !client.started) client.started = Clock::now();
  std::vector<ChunkResult> results = runner_.run(step, *scheduler_);
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < step.chunks.size(); ++i) {
    tokens.push_back(results[i].sampled.token);
    if (!results[i].error.empty()) scheduler_->finish(step.chunks[i].seq, FinishReason::error);
  }
  scheduler_->commit(step, tokens);
  for (size_t i = 0; i < step.chunks.size(); ++i) {
    const Chunk& chunk = step.chunks[i];
    if (!scheduler_->contains(chunk.seq)) continue;  // a sink before it ended this one
    const Sequence& s = scheduler_->sequence(chunk.seq);
    SequenceEvent event{
        .id = s.id, .token = {}, .finish = s.finish_reason, .error = results[i].error, .num_cached = s.num_cached};
    if (chunk.samples && event.error.empty()) event.token = results[i].sampled;
    event.prompt_logprobs = std::move(results[i].prompt_logprobs);
    if (event.finish != FinishReason::none)
      tell_end(scheduler_->take(chunk.seq), std::move(event));
    else if (event.token || !event.prompt_logprobs.empty())
      tell(clients_.at(chunk.seq), std::move(event));
  }
  return step;
}

void EngineCore::fail_all(const std::string& error) {
  while (!clients_.empty()) {
    const SeqId id = clients_.begin()->first;
    tell_end(scheduler_->sequence(id), {.id = id, .token = {}, .finish = FinishReason::error, .error = error});
  }
}

}  // namespace comet
