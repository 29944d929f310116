// SPDX-License-Identifier: Apache-2.0
// Load on a server of OpenAI's API, and what it made of it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "comet/comet.h"

namespace comet::api {

enum class BenchEndpoint { completions, chat };
enum class BenchDataset { random, prefix, trace_azure, trace_mooncake };

struct BenchServeOptions {
  std::string base_url = "http://127.0.0.1:8000";
  std::string model{};    // "": the first one of /v1/models
  std::string api_key{};  // "": none is sent
  BenchEndpoint endpoint = BenchEndpoint::completions;
  double wait_s = 0;        // for a server that is not up yet
  double timeout_s = 3600;  // for one request
  double temperature = 0;
  bool ignore_eos = true;
  std::string extra_body{};  // JSON object whose fields are added to every request

  BenchDataset dataset = BenchDataset::random;
  int num_prompts = 100;                  // random, prefix
  int input_len = 256, output_len = 64;   // random (output_len: prefix, too)
  double range_ratio = 0;                 // random: lengths are even in len * (1 - ratio) .. len * (1 + ratio)
  int prefix_len = 256, suffix_len = 64;  // prefix: one of num_prefixes prefixes, then a suffix of its own
  int num_prefixes = 4;
  std::string trace_file{};
  double trace_speed = 1;  // the trace's time passes this many times as fast; infinite: no schedule
  int length_divisor = 1;  // traces: lengths are divided by it, upwards
  int max_requests = 0;    // traces: the first ones only; 0: all
  int vocab_size = 0;      // prompts have ids below it; 0: what the server tells, else 256

  int concurrency = 0;      // most open requests; 0: no limit
  double request_rate = 0;  // requests a second of an open loop; 0: closed loop (not for traces)
  double burstiness = 1;    // shape of the gamma-distributed gaps: 1 Poisson, below 1 burstier, above 1 more even
  int warmup = 0;           // requests before the measurement
  uint64_t seed = 0;

  std::vector<double> percentiles = {90, 99};
  std::map<std::string, double> goodput{};  // most ms by "ttft", "tpot", "e2el"; empty: not counted
  int ideal_blocks = 0;                     // kv_blocks of the ideal LRU cache; 0: the infinite one only
  bool detailed = false;                    // rows of single requests in the JSON
};

// Of all values; 0 where there are none.
struct BenchDistribution {
  size_t count = 0;
  double mean = 0, median = 0, max = 0;
  std::vector<std::pair<double, double>> percentiles;  // (99, value)
};

struct BenchServeResult {
  std::string model;
  int num_requests = 0, num_completed = 0, num_failed = 0;
  int num_unfinished = 0;               // open or not sent when it was interrupted
  std::map<std::string, int> failures;  // number by kind: "503 queue_full", "cut off"
  std::string first_failure;            // in full
  double duration_s = 0;
  int64_t prompt_tokens = 0, output_tokens = 0, cached_tokens = 0;             // of completed requests
  double request_throughput = 0, output_throughput = 0, total_throughput = 0;  // per second
  double goodput = 0;                                                          // requests a second within all limits
  double mean_concurrency = 0;                                                 // open requests on average
  BenchDistribution ttft, tpot, itl, e2el;                                     // ms
  // Prompt tokens in kv_blocks of 64 that an ideal cache has: one that forgets nothing, and one of ideal_blocks.
  int64_t ideal_hit_tokens = 0, ideal_lru_hit_tokens = 0;
  bool is_open_loop = false;
  BenchDistribution lateness;                        // ms from the planned to the real beginning of a request
  double cpu_us_per_token = 0, cpu_utilization = 0;  // of this client; 1.0 is one core
  std::vector<std::string> warnings;
  bool is_interrupted = false;
  std::string json, svg;
};

// Done and all requests, failed ones.
using BenchProgress = std::function<void(int done, int total, int failed)>;

// Runs the load to its end, or to the first SIGINT or SIGTERM (a second one ends the program). Throws for what is wrong
// with the options, the trace or the server before the load starts; requests that fail are counted.
BenchServeResult bench_serve(const BenchServeOptions& options, const BenchProgress& progress = {});

}  // namespace comet::api
