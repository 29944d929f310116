// SPDX-License-Identifier: Apache-2.0
// What is asked: prompts as lists of segments, so that shared beginnings are shared tokens, and when.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comet/bench_serve.h"

namespace comet::loadgen {

// Tokens of a prompt: the first `length` ones of the endless sequence that `key` names.
struct Segment {
  uint64_t key;
  int length;
};

struct Request {
  double planned_s = 0;  // after the beginning, in an open loop
  int output_len = 1;
  std::vector<Segment> segments{};

  int input_len() const;
};

struct Workload {
  std::vector<Request> requests;  // by planned_s
  bool is_scheduled = false;      // open loop; else requests go as the concurrency allows
  int num_too_long = 0;           // requests of a trace that were left out: they do not fit the model's context
};

// Ids of a prompt are kFirstId .. vocab_size - 1: below are often the special ones.
constexpr int kFirstId = 3;
constexpr int kDefaultVocab = 256;  // every model has as many

std::vector<int32_t> prompt_ids(const Request& request, int vocab_size);
// Words instead, for chat: the same segments give the same words, one for each token. Servers count their own tokens.
std::string prompt_text(const Request& request);

// By options.dataset, without traces' files being read twice; the same options give the same requests.
// context: most tokens of prompt and output; 0: not known. Throws InvalidInput.
Workload make_workload(const api::BenchServeOptions& options, int context);
// Random requests as long as the workload's first ones that share nothing with them.
std::vector<Request> make_warmup(const Workload& workload, int count, uint64_t seed);

}  // namespace comet::loadgen
