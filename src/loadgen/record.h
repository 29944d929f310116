// SPDX-License-Identifier: Apache-2.0
// What happened to one request. Times are seconds since the load began.
#pragma once

#include <string>
#include <vector>

namespace comet::loadgen {

struct RequestRecord {
  enum class Status { unsent, open, completed, failed };

  Status status = Status::unsent;
  double planned_s = 0, start_s = 0, end_s = 0;  // end: of the last text, or of the failure
  std::vector<double> event_s{};                 // of events with text
  bool has_usage = false;
  int prompt_tokens = 0, output_tokens = 0, cached_tokens = 0;  // as the server counts, if it does
  std::string failure{}, message{};                             // kind ("503 queue_full", "cut off"), and in full

  double ttft_s() const { return (event_s.empty() ? end_s : event_s.front()) - start_s; }
  double e2el_s() const { return end_s - start_s; }
  // Mean time of the tokens after the first one; 0 where there are none.
  double tpot_s() const { return output_tokens > 1 ? (e2el_s() - ttft_s()) / (output_tokens - 1) : 0; }
};

}  // namespace comet::loadgen
