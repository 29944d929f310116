// SPDX-License-Identifier: Apache-2.0
// What the server counts, in Prometheus' text format, under vLLM's names.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace comet::server {

class Histogram {
 public:
  // bounds: ascending upper limits of the buckets; one without limit follows.
  explicit Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

  void add(double value, int64_t times = 1);
  void write(std::string& out, const std::string& name, const std::string& labels) const;

 private:
  std::vector<double> bounds_;
  std::vector<int64_t> counts_;
  double sum_ = 0.0;
};

// What one finished choice was.
struct FinishedChoice {
  std::string reason;  // "stop", "length", "cancelled", "error"
  int num_prompt = 0, num_output = 0;
  double queued_s = 0.0, seconds = 0.0;
};

// Any thread.
class Metrics {
 public:
  // prefix: of all names; model: the label model_name.
  Metrics(std::string prefix, std::string model) : prefix_(std::move(prefix)), model_(std::move(model)) {}

  // The first num_tokens of a choice came `seconds` after its request.
  void first_tokens(double seconds, int num_tokens);
  // num_tokens more tokens came `seconds` after the ones before.
  void more_tokens(double seconds, int num_tokens);
  void finished(const FinishedChoice& choice);
  void answered(const std::string& route, int status);

  std::string text(const EngineStats& engine, int num_open) const;

 private:
  std::string prefix_, model_;
  mutable std::mutex mutex_;
  int64_t prompt_tokens_ = 0, generation_tokens_ = 0;
  std::map<std::string, int64_t> finished_;
  std::map<std::pair<std::string, int>, int64_t> answered_;
  Histogram ttft_{{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}};
  Histogram itl_{{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5}};
  Histogram e2e_{{0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480}};
  Histogram queue_{{0.001, 0.01, 0.05, 0.1, 0.3, 0.5, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120}};
  Histogram prompt_{{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}};
  Histogram generation_{{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}};
};

}  // namespace comet::server
