// SPDX-License-Identifier: Apache-2.0
// Which tokens of which sequences the next step computes: schedule -> run -> commit, over ids and counts only.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "engine/block_manager.h"
#include "engine/sequence.h"

namespace comet {

struct SchedulerOptions {
  int num_kv_blocks = 0;
  int block_size = 0;           // token positions of a kv_block
  int max_model_len = 0;        // prompt + output tokens of one sequence
  int max_batch_tokens = 2048;  // token budget of a step; >= max_batch_seqs
  int max_batch_seqs = 256;     // sequences that run at once
  int max_chunk = 0;            // longest prefill chunk; 0: as long as the budget allows
  int max_logit_rows = 0;       // of a step: above max_batch_seqs, or 0: as many as there are tokens
  std::vector<int32_t> eos_token_ids = {};
  std::optional<uint64_t> prefix_cache_seed = {};  // a secret; without one no kv_blocks are shared
  // For tests: every so many steps the last running sequence that has sampled since it was admitted is preempted. 0:
  // never.
  int preempt_every = 0;
};

struct Chunk {
  SeqId seq;
  int first;  // computes tokens [first, first + count)
  int count;
  bool samples;  // ends at the sequence's last token: its logits choose the next one
  // Log-probabilities of the prompt are asked for: the logits of tokens [first_prompt_row, + num_prompt_rows) too.
  int first_prompt_row = 0, num_prompt_rows = 0;
};

struct Step {
  std::vector<Chunk> chunks;     // decodes first; at most one per sequence
  std::vector<SeqId> preempted;  // lost their kv_blocks; some may run again at once

  bool empty() const { return chunks.empty(); }
  int num_tokens() const;
};

// Order everywhere: priority, then arrival. Decodes are served in every step; what is left of the token budget goes to
// prefills in order. When kv_blocks run out, the last running sequence gives up its own to an earlier one and is
// recomputed later. A sequence begins behind what the prefix cache still has of its tokens. One thread; one step at a
// time.
class Scheduler {
 public:
  // Throws InvalidInput when an option is out of range.
  explicit Scheduler(const SchedulerOptions& options);

  // Takes a sequence to wait for its turn. Throws InvalidInput when it could never run to its end: an empty prompt, or
  // prompt and max_tokens beyond context().
  SeqId add(SequenceSpec spec);
  // Chooses the next step and reserves its kv_blocks. Empty only when nothing runs or waits.
  Step schedule();
  // Takes in what the step computed: tokens[i] is what chunks[i] sampled, ignored where it samples nothing or where the
  // sequence finished meanwhile. Returns the sequences that this step finished, in chunk order.
  std::vector<SeqId> commit(const Step& step, std::span<const int32_t> tokens);
  // Ends a sequence from outside at any moment, also between schedule and commit: cancelled, error, or stop (a stop
  // string). Does nothing when it has already finished.
  void finish(SeqId id, FinishReason reason);
  // Puts a running sequence back to waiting, to be recomputed (the next step names it among the preempted); not between
  // schedule and commit.
  void preempt(SeqId id);
  // Removes a finished sequence and returns it; every sequence is taken once. One that was finished between schedule
  // and commit keeps its kv_blocks until commit and can be taken only then.
  Sequence take(SeqId id);

  bool has_work() const { return !waiting_.empty() || !running_.empty(); }
  bool contains(SeqId id) const { return sequences_.count(id) != 0; }
  const Sequence& sequence(SeqId id) const;
  int num_waiting() const { return static_cast<int>(waiting_.size()); }
  int num_running() const { return static_cast<int>(running_.size()); }
  int64_t num_preemptions() const { return num_preemptions_; }
  // Tokens of admitted sequences, and how many of them the prefix cache had.
  int64_t num_admitted_tokens() const { return num_admitted_tokens_; }
  int64_t num_cached_tokens() const { return num_cached_tokens_; }
  const BlockManager& blocks() const { return blocks_; }
  const SchedulerOptions& options() const { return options_; }
  int context() const { return context_; }  // the longest prompt + output: max_model_len, or what the kv_blocks hold

  // Throws Error when states, queues, tables and kv_blocks do not agree. Linear in all of them.
  void check_integrity() const;

 private:
  using Key = std::pair<int, SeqId>;  // (priority, arrival)

  Sequence& get(SeqId id);
  Key key(const Sequence& s) const { return {s.priority, s.id}; }
  int next_count(const Sequence& s) const;  // tokens it would like to compute in one step
  bool wants_prompt_rows(const Sequence& s) const;
  void force_preemption(Step& step);
  void admit(Step& step);
  bool make_room_for(const Sequence& next, size_t num_cached_blocks, Step& step);
  void keep_blocks(Sequence& s);
  void plan_chunks(Step& step);
  int allocate(Sequence& s, int count, Step& step);
  void preempt_now(Sequence& s, Step& step);

  SchedulerOptions options_;
  BlockManager blocks_;
  int context_ = 0;
  std::map<SeqId, Sequence> sequences_;
  std::set<Key> waiting_, running_;
  SeqId next_id_ = 0;
  bool is_in_flight_ = false;
  Step next_step_;                         // has what preempt() did since the last step
  std::vector<SeqId> finished_in_flight_;  // their kv_blocks are released at commit
  int64_t num_steps_ = 0, num_preemptions_ = 0, num_admitted_tokens_ = 0, num_cached_tokens_ = 0;
};

}  // namespace comet
