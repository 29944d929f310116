// SPDX-License-Identifier: Apache-2.0
// From records of requests to the figures that people read.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "comet/bench_serve.h"
#include "loadgen/load.h"
#include "loadgen/workload.h"

namespace comet::loadgen {

struct Run {
  const api::BenchServeOptions& options;
  const Workload& workload;
  const LoadOutcome& outcome;
  std::string model;
  int vocab_size;
};

// All of the result but the SVG.
api::BenchServeResult make_report(const Run& run);

// Output tokens a second in buckets of bucket_s; a request's tokens are spread evenly over its events.
std::vector<double> output_rate(std::span<const RequestRecord> records, double duration_s, double bucket_s);

// Milliseconds of completed requests.
struct Latencies {
  std::vector<double> ttft, tpot, itl, e2el;
};
Latencies latencies_of(std::span<const RequestRecord> records);

}  // namespace comet::loadgen
