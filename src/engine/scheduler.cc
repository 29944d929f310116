// SPDX-License-Identifier: Apache-2.0
#include "engine/scheduler.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/check.h"

namespace comet {
namespace {

void require_at_least(const char* name, int value, int least) {
  if (value < least) throw_invalid("{} is {}, must be at least {}", name, value, least);
}

bool contains_token(const std::vector<int32_t>& tokens, int32_t token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

// Whether the last token ends the sequence. min_tokens has no say here: the sampler holds stop tokens back.
FinishReason reason_to_finish(const Sequence& s, const std::vector<int32_t>& eos_token_ids) {
  const int32_t token = s.tokens.back();
  if (!s.params.ignore_eos && contains_token(eos_token_ids, token)) return FinishReason::stop;
  if (contains_token(s.params.stop_token_ids, token)) return FinishReason::stop;
  return s.num_tokens() >= s.max_len ? FinishReason::length : FinishReason::none;
}

}  // namespace

int Step::num_tokens() const {
  int sum = 0;
  for (const Chunk& chunk : chunks) sum += chunk.count;
  return sum;
}

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options),
      blocks_(std::max(1, options.num_kv_blocks), std::max(1, options.block_size), options.prefix_cache_seed) {
  require_at_least("num_kv_blocks", options.num_kv_blocks, 1);
  require_at_least("block_size", options.block_size, 1);
  require_at_least("max_model_len", options.max_model_len, 2);
  require_at_least("max_batch_seqs", options.max_batch_seqs, 1);
  require_at_least("max_chunk", options.max_chunk, 0);
  require_at_least("preempt_every", options.preempt_every, 0);
  if (options.max_logit_rows != 0)
    require_at_least("max_logit_rows", options.max_logit_rows, options.max_batch_seqs + 1);
  if (options.max_batch_tokens < options.max_batch_seqs) {
    throw_invalid(
        "max_batch_tokens is {}, must be at least max_batch_seqs, which is {}: every sequence decodes in every step",
        options.max_batch_tokens, options.max_batch_seqs);
  }
  context_ = static_cast<int>(std::min<int64_t>(options.max_model_len, blocks_.num_positions()));
}

SeqId Scheduler::add(SequenceSpec spec) {
  const int64_t num_prompt = static_cast<int64_t>(spec.prompt.size());
  if (num_prompt == 0) throw_invalid("the prompt has no tokens");
  const int64_t max_len = spec.params.max_tokens ? num_prompt + *spec.params.max_tokens : context_;
  if (num_prompt >= context_ || max_len > context_) {
    throw_invalid(
        "the prompt has {} tokens{}, but there is room for {} tokens of prompt and output together "
        "(max_model_len {}, KV cache {})",
        num_prompt, spec.params.max_tokens ? fmt::format(" and max_tokens is {}", *spec.params.max_tokens) : "",
        context_, options_.max_model_len, blocks_.num_positions());
  }
  Sequence s;
  s.id = next_id_++;
  s.priority = spec.priority;
  s.tokens = std::move(spec.prompt);
  s.num_prompt = static_cast<int>(num_prompt);
  s.max_len = static_cast<int>(max_len);
  s.params = std::move(spec.params);
  s.seed = spec.seed;
  s.choice_idx = spec.choice_idx;
  s.prompt_logprobs = spec.prompt_logprobs;
  s.root = s.prefix = blocks_.root(spec.cache_salt);
  waiting_.insert(key(s));
  return sequences_.emplace(s.id, std::move(s)).first->first;
}

Step Scheduler::schedule() {
  COMET_CHECK(!is_in_flight_, "the last step has not been committed");
  Step step = std::exchange(next_step_, {});
  num_steps_ += 1;
  force_preemption(step);
  admit(step);
  plan_chunks(step);
  COMET_CHECK(!step.empty() || !has_work(), "{} running, {} waiting, {} kv_blocks free", num_running(), num_waiting(),
              blocks_.num_free());
  is_in_flight_ = !step.empty();
  return step;
}

// Only sequences that got somewhere since they were admitted: the work of each preemption is paid with a new token, so
// that everything still ends.
void Scheduler::force_preemption(Step& step) {
  if (options_.preempt_every == 0 || num_steps_ % options_.preempt_every != 0) return;
  for (auto it = running_.rbegin(); it != running_.rend(); ++it) {
    Sequence& s = get(it->second);
    if (s.num_tokens() == s.num_admitted) continue;
    preempt_now(s, step);
    return;
  }
}

void Scheduler::admit(Step& step) {
  int64_t wanted = 0;  // tokens that the running sequences would compute in this step
  for (const Key& k : running_) wanted += next_count(get(k.second));
  while (!waiting_.empty()) {
    Sequence& next = get(waiting_.begin()->second);
    const bool is_urgent = !running_.empty() && next.priority < running_.rbegin()->first;
    if (wanted >= options_.max_batch_tokens && !is_urgent) return;
    // The last token is always computed: its logits choose the next one.
    CachedPrefix cached = blocks_.match(wants_prompt_rows(next) ? kNoPrefix : next.root,
                                        std::span(next.tokens).first(next.tokens.size() - 1));
    if (cached.table.empty()) cached.prefix = next.root;
    if (!make_room_for(next, cached.table.size(), step)) {
      blocks_.release(cached.table);
      return;  // nobody overtakes it
    }
    waiting_.erase(key(next));
    running_.insert(key(next));
    next.state = SeqState::running;
    next.num_kept = static_cast<int>(cached.table.size());
    next.num_computed = next.num_kept * blocks_.block_size();
    next.block_table = std::move(cached.table);
    next.prefix = cached.prefix;
    if (next.num_admitted == 0) next.num_cached = next.num_computed;
    next.num_admitted = next.num_tokens();
    num_admitted_tokens_ += next.num_tokens();
    num_cached_tokens_ += next.num_computed;
    wanted += next_count(next);
  }
}

// Whether `next`, which has num_cached_blocks already, can start: its other tokens fit beside what the running
// sequences still have to compute, and one kv_block is left for each of them to grow, so that it is not preempted at
// once. Running sequences of a worse priority make way, but only if that is enough.
bool Scheduler::make_room_for(const Sequence& next, size_t num_cached_blocks, Step& step) {
  int64_t room = blocks_.num_free() + static_cast<int64_t>(num_cached_blocks) - blocks_.blocks_for(next.num_tokens());
  for (const Key& k : running_) {
    const Sequence& s = get(k.second);
    room -= blocks_.num_missing(s.block_table, s.num_tokens()) + 1;
  }
  int num_left = num_running();
  std::vector<SeqId> victims;
  std::unordered_map<int32_t, int> num_let_go;  // tables of victims that hold a kv_block
  const auto fits = [&] { return room >= 0 && num_left < options_.max_batch_seqs; };
  for (auto it = running_.rbegin(); !fits() && it != running_.rend() && it->first > next.priority; ++it) {
    const Sequence& s = get(it->second);
    for (const int32_t block : s.block_table) room += ++num_let_go[block] == blocks_.ref_count(block) ? 1 : 0;
    room += blocks_.num_missing(s.block_table, s.num_tokens()) + 1;
    num_left -= 1;
    victims.push_back(s.id);
  }
  if (!fits()) return false;
  for (const SeqId id : victims) preempt_now(get(id), step);
  return true;
}

void Scheduler::plan_chunks(Step& step) {
  // One token is set aside for every sequence that decodes, so that no prefill can take it.
  int num_decodes = 0;
  for (const Key& k : running_) num_decodes += get(k.second).is_decoding() ? 1 : 0;
  int budget = options_.max_batch_tokens;
  // One row of logits is set aside for every sequence's next token.
  int rows = options_.max_logit_rows > 0 ? options_.max_logit_rows - num_running() : budget;
  std::vector<Chunk> prefills;
  for (auto it = running_.begin(); it != running_.end(); ++it) {  // allocate() may erase later ones
    Sequence& s = get(it->second);
    const bool is_decoding = s.is_decoding();
    if (is_decoding) num_decodes -= 1;
    int most = std::min(next_count(s), budget - num_decodes);
    if (wants_prompt_rows(s)) most = std::min(most, rows);
    const int count = allocate(s, most, step);
    if (count == 0) continue;
    budget -= count;
    Chunk chunk{s.id, s.num_computed, count, s.num_computed + count == s.num_tokens()};
    if (wants_prompt_rows(s)) {
      chunk.first_prompt_row = s.num_prompt_rows;
      chunk.num_prompt_rows = std::max(0, std::min(s.num_computed + count, s.num_prompt - 1) - s.num_prompt_rows);
      rows -= chunk.num_prompt_rows;
    }
    (is_decoding ? step.chunks : prefills).push_back(chunk);
  }
  step.chunks.insert(step.chunks.end(), prefills.begin(), prefills.end());
}

// Gives `s` kv_blocks for its next `count` tokens, at the cost of later sequences, and returns for how many there are
// enough. The last one gets what is left and otherwise waits where it is: nobody needs its kv_blocks yet.
int Scheduler::allocate(Sequence& s, int count, Step& step) {
  while (!blocks_.can_grow(s.block_table, s.num_computed + count)) {
    Sequence& last = get(running_.rbegin()->second);
    if (last.id == s.id) break;
    preempt_now(last, step);
  }
  const int64_t num_blocks = static_cast<int64_t>(s.block_table.size()) + blocks_.num_free();
  count = static_cast<int>(std::min<int64_t>(count, num_blocks * blocks_.block_size() - s.num_computed));
  blocks_.grow(s.block_table, s.num_computed + count);
  return count;
}

int Scheduler::next_count(const Sequence& s) const {
  return options_.max_chunk > 0 ? std::min(options_.max_chunk, s.num_remaining()) : s.num_remaining();
}

bool Scheduler::wants_prompt_rows(const Sequence& s) const {
  return s.prompt_logprobs && s.num_prompt_rows < s.num_prompt - 1;
}

void Scheduler::preempt_now(Sequence& s, Step& step) {
  blocks_.release(s.block_table);
  running_.erase(key(s));
  waiting_.insert(key(s));  // before everything of its priority that arrived later
  s.state = SeqState::waiting;
  s.num_computed = s.num_kept = 0;
  s.prefix = s.root;
  s.num_preemptions += 1;
  num_preemptions_ += 1;
  step.preempted.push_back(s.id);
}

std::vector<SeqId> Scheduler::commit(const Step& step, std::span<const int32_t> tokens) {
  COMET_CHECK(is_in_flight_ || step.empty(), "no step to commit");
  COMET_CHECK_EQ(step.chunks.size(), tokens.size());
  is_in_flight_ = false;
  std::vector<SeqId> finished;
  for (size_t i = 0; i < step.chunks.size(); ++i) {
    const Chunk& chunk = step.chunks[i];
    Sequence& s = get(chunk.seq);
    COMET_CHECK(s.num_computed == chunk.first, "sequence {}: chunk at {}, computed up to {}", s.id, chunk.first,
                s.num_computed);
    if (s.state == SeqState::finished) continue;
    s.num_computed += chunk.count;
    s.num_prompt_rows += chunk.num_prompt_rows;
    keep_blocks(s);
    if (!chunk.samples) continue;
    s.tokens.push_back(tokens[i]);
    const FinishReason reason = reason_to_finish(s, options_.eos_token_ids);
    if (reason == FinishReason::none) continue;
    finish(s.id, reason);
    finished.push_back(s.id);
  }
  for (const SeqId id : std::exchange(finished_in_flight_, {})) blocks_.release(get(id).block_table);
  return finished;
}

// Others may use the kv_blocks that the sequence has filled.
void Scheduler::keep_blocks(Sequence& s) {
  const int size = blocks_.block_size();
  for (; s.prefix != kNoPrefix && (s.num_kept + 1) * size <= s.num_computed; ++s.num_kept)
    s.prefix = blocks_.keep(s.prefix,
                            std::span(s.tokens).subspan(static_cast<size_t>(s.num_kept) * static_cast<size_t>(size),
                                                        static_cast<size_t>(size)),
                            s.block_table, s.num_kept);
}

void Scheduler::finish(SeqId id, FinishReason reason) {
  COMET_CHECK(reason != FinishReason::none);
  Sequence& s = get(id);
  if (s.state == SeqState::finished) return;
  (s.state == SeqState::running ? running_ : waiting_).erase(key(s));
  s.state = SeqState::finished;
  s.finish_reason = reason;
  if (is_in_flight_) {
    finished_in_flight_.push_back(id);  // the step may be writing to its kv_blocks
  } else {
    blocks_.release(s.block_table);
  }
}

void Scheduler::preempt(SeqId id) {
  COMET_CHECK(!is_in_flight_, "the step may be writing to the kv_blocks of sequence {}", id);
  Sequence& s = get(id);
  COMET_CHECK(s.state == SeqState::running, "sequence {} is {}", id, to_string(s.state));
  preempt_now(s, next_step_);
}

Sequence Scheduler::take(SeqId id) {
  Sequence& s = get(id);
  COMET_CHECK(s.state == SeqState::finished && s.block_table.empty(), "sequence {} is {} and holds {} kv_blocks", id,
              to_string(s.state), s.block_table.size());
  Sequence out = std::move(s);
  sequences_.erase(id);
  return out;
}

const Sequence& Scheduler::sequence(SeqId id) const {
  const auto it = sequences_.find(id);
  COMET_CHECK(it != sequences_.end(), "no sequence {}", id);
  return it->second;
}

Sequence& Scheduler::get(SeqId id) { return const_cast<Sequence&>(std::as_const(*this).sequence(id)); }

void Scheduler::check_integrity() const {
  std::vector<const BlockTable*> tables;
  size_t num_waiting = 0, num_running = 0;
  for (const auto& entry : sequences_) {
    const Sequence& s = entry.second;
    const auto require = [&s](bool holds, const char* what) {
      COMET_CHECK(holds, "sequence {} ({}, {} of {} tokens computed, {} kv_blocks): {}", s.id, to_string(s.state),
                  s.num_computed, s.num_tokens(), s.block_table.size(), what);
    };
    tables.push_back(&s.block_table);
    const bool is_queued = waiting_.count(key(s)) + running_.count(key(s)) == 1;
    require((s.finish_reason != FinishReason::none) == (s.state == SeqState::finished), "finished for no reason");
    switch (s.state) {
      case SeqState::waiting:
        num_waiting += 1;
        require(is_queued && waiting_.count(key(s)) == 1, "not among the waiting");
        require(s.block_table.empty() && s.num_computed == 0, "holds kv_blocks while waiting");
        break;
      case SeqState::running:
        num_running += 1;
        require(is_queued && running_.count(key(s)) == 1, "not among the running");
        require(s.num_computed < s.num_tokens() && s.num_tokens() < s.max_len, "should have finished");
        require(is_in_flight_ || blocks_.blocks_for(s.num_computed) == static_cast<int>(s.block_table.size()),
                "kv_blocks do not fit what is computed");
        break;
      case SeqState::finished: require(is_in_flight_ || s.block_table.empty(), "holds kv_blocks after its end"); break;
    }
  }
  COMET_CHECK(num_waiting == waiting_.size() && num_running == running_.size(), "{} of {} waiting, {} of {} running",
              num_waiting, waiting_.size(), num_running, running_.size());
  COMET_CHECK(num_running <= static_cast<size_t>(options_.max_batch_seqs), "{} running", num_running);
  blocks_.check_integrity(tables);
}

}  // namespace comet
