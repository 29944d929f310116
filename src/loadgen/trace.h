// SPDX-License-Identifier: Apache-2.0
// Public traces of language-model services.
//   Azure (Azure/AzurePublicDataset): CSV with the head TIMESTAMP,ContextTokens,GeneratedTokens; times as
//   2023-11-16 18:15:46.6805900, perhaps followed by +00:00.
//   Mooncake (kvcache-ai/Mooncake): JSON lines {"timestamp": ms, "input_length", "output_length", "hash_ids": [..]};
//   each hash id stands for 512 tokens of the prompt, the last one for what is left.
#pragma once

#include <istream>
#include <string>
#include <vector>

#include "loadgen/workload.h"

namespace comet::loadgen {

constexpr int kMooncakeBlock = 512;

struct TraceOptions {
  std::string name{};  // of the file, for messages
  double speed = 1;
  int divisor = 1;       // Mooncake: of 512
  int max_requests = 0;  // 0: all
  uint64_t seed = 0;     // Azure: of the tokens, which it does not have
};

// Requests by time, the first one at 0. Throws InvalidInput with the line's number and what was expected there.
std::vector<Request> parse_azure_trace(std::istream& in, const TraceOptions& options);
std::vector<Request> parse_mooncake_trace(std::istream& in, const TraceOptions& options);

std::vector<Request> read_azure_trace(const api::BenchServeOptions& options);
std::vector<Request> read_mooncake_trace(const api::BenchServeOptions& options);

}  // namespace comet::loadgen
