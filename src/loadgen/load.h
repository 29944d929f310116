// SPDX-License-Identifier: Apache-2.0
// Sends requests and notes what comes back, all in the calling thread.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "loadgen/record.h"
#include "loadgen/target.h"

namespace comet::loadgen {

struct LoadOptions {
  int concurrency = 0;        // most open requests; 0: no limit
  bool is_scheduled = false;  // each request at its planned_s; else as soon as the concurrency allows
  double timeout_s = 3600;    // of one request
};

struct LoadOutcome {
  std::vector<RequestRecord> records;  // of each request
  double duration_s = 0;               // to the end of the last one, or to the interruption
  double cpu_s = 0;                    // of this process
  bool is_interrupted = false;
};

// Until all requests have ended, or SIGINT or SIGTERM comes: then what is open is dropped. A request that fails is a
// record. Throws InvalidInput when the host's name means nothing.
LoadOutcome run_load(const Target& target, std::span<const Request> requests, const LoadOptions& options,
                     const std::function<void(int done, int total, int failed)>& progress = {});

}  // namespace comet::loadgen
