// SPDX-License-Identifier: Apache-2.0
// One choice of one request inside the engine: its tokens, how far they are computed, and why it ended.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/block_manager.h"
#include "engine/sampling.h"

namespace comet {

using SeqId = int64_t;  // also the order of arrival

enum class SeqState { waiting, running, finished };
enum class FinishReason { none, stop, length, cancelled, error };

const char* to_string(SeqState state);
const char* to_string(FinishReason reason);

// What Scheduler::add takes.
struct SequenceSpec {
  std::vector<int32_t> prompt = {};  // not empty
  SamplingParams params = {};        // validated
  uint64_t seed = 0;                 // params.seed, or drawn once for the request
  uint32_t choice_idx = 0;           // 0..params.n - 1
  int priority = 0;                  // lower runs first
  std::string cache_salt = {};       // kv_blocks are shared between sequences of one salt only
  // Report the log-probability of every prompt token but the first, and this many best: 0..kMaxLogprobs.
  std::optional<int> prompt_logprobs = {};
};

struct Sequence {
  SeqId id = 0;
  int priority = 0;
  SeqState state = SeqState::waiting;
  FinishReason finish_reason = FinishReason::none;
  std::vector<int32_t> tokens;  // prompt, then output
  int num_prompt = 0;
  int max_len = 0;       // prompt + output tokens at which it ends with `length`
  int num_computed = 0;  // K and V of tokens [0, num_computed) are in the cache
  BlockTable block_table;
  PrefixId root = kNoPrefix, prefix = kNoPrefix;  // the empty prefix; that of the first num_kept kv_blocks
  int num_kept = 0;                               // kv_blocks of its own that others may find
  int num_cached = 0;                             // prompt tokens that were in the cache when it first ran
  std::optional<int> prompt_logprobs;
  int num_prompt_rows = 0;  // rows of logits for them that were computed: of the prompt's tokens 0, 1, ..
  int num_preemptions = 0;
  int num_admitted = 0;  // tokens it had when it last began to run; 0: never
  SamplingParams params;
  uint64_t seed = 0;
  uint32_t choice_idx = 0;

  int num_tokens() const { return static_cast<int>(tokens.size()); }
  int num_output() const { return num_tokens() - num_prompt; }
  int num_remaining() const { return num_tokens() - num_computed; }  // tokens whose K and V are still to be computed
  bool is_decoding() const { return num_output() > 0 && num_remaining() == 1; }
  std::span<const int32_t> prompt() const { return std::span(tokens).first(static_cast<size_t>(num_prompt)); }
  std::span<const int32_t> output() const { return std::span(tokens).subspan(static_cast<size_t>(num_prompt)); }
};

}  // namespace comet
