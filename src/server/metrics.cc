// SPDX-License-Identifier: Apache-2.0
#include "server/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace comet::server {
namespace {

// A label's value with what the format asks to be escaped.
std::string escape(const std::string& value) {
  std::string out;
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

void Histogram::add(double value, int64_t times) {
  const auto place = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<size_t>(place)] += times;
  sum_ += value * static_cast<double>(times);
}

void Histogram::write(std::string& out, const std::string& name, const std::string& labels) const {
  int64_t count = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    count += counts_[i];
    fmt::format_to(std::back_inserter(out), "{}_bucket{{{},le=\"{}\"}} {}\n", name, labels,
                   i < bounds_.size() ? fmt::format("{}", bounds_[i]) : "+Inf", count);
  }
  fmt::format_to(std::back_inserter(out), "{}_sum{{{}}} {}\n{}_count{{{}}} {}\n", name, labels, sum_, name, labels,
                 count);
}

void Metrics::first_tokens(double seconds, int num_tokens) {
  std::lock_guard lock(mutex_);
  generation_tokens_ += num_tokens;
  ttft_.add(seconds);
}

void Metrics::more_tokens(double seconds, int num_tokens) {
  if (num_tokens < 1) return;
  std::lock_guard lock(mutex_);
  generation_tokens_ += num_tokens;
  itl_.add(seconds / num_tokens, num_tokens);
}

void Metrics::finished(const FinishedChoice& choice) {
  std::lock_guard lock(mutex_);
  prompt_tokens_ += choice.num_prompt;
  finished_[choice.reason] += 1;
  e2e_.add(choice.seconds);
  queue_.add(choice.queued_s);
  prompt_.add(choice.num_prompt);
  generation_.add(choice.num_output);
}

void Metrics::answered(const std::string& route, int status) {
  std::lock_guard lock(mutex_);
  answered_[{route, status}] += 1;
}

std::string Metrics::text(const EngineStats& engine, int num_open) const {
  std::lock_guard lock(mutex_);
  std::string out;
  const std::string labels = fmt::format("model_name=\"{}\"", escape(model_));
  const auto begin = [&](const char* stem, const char* type, const char* help) {
    const std::string name = prefix_ + ":" + stem;
    fmt::format_to(std::back_inserter(out), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
    return name;
  };
  const auto one = [&](const char* stem, const char* type, const char* help, auto value) {
    const std::string name = begin(stem, type, help);
    fmt::format_to(std::back_inserter(out), "{}{{{}}} {}\n", name, labels, value);
  };
  const auto histogram = [&](const char* stem, const char* help, const Histogram& h) {
    h.write(out, begin(stem, "histogram", help), labels);
  };
  one("num_requests_running", "gauge", "Sequences that run.", engine.num_running);
  one("num_requests_waiting", "gauge", "Sequences that wait.", engine.num_waiting);
  one("num_requests_open", "gauge", "Choices that were accepted and have not ended.", num_open);
  one("kv_cache_usage_perc", "gauge", "Share of kv_blocks that running sequences hold, 0 to 1.",
      engine.num_kv_blocks == 0 ? 0.0 : static_cast<double>(engine.num_kv_blocks_used) / engine.num_kv_blocks);
  one("prefix_cache_queries_total", "counter", "Tokens of admitted sequences.", engine.num_admitted_tokens);
  one("prefix_cache_hits_total", "counter", "Tokens that the prefix cache had.", engine.num_cached_tokens);
  one("num_preemptions_total", "counter", "Sequences that gave up their kv_blocks.", engine.num_preemptions);
  one("prompt_tokens_total", "counter", "Prompt tokens of finished choices.", prompt_tokens_);
  one("generation_tokens_total", "counter", "Generated tokens that were handed on.", generation_tokens_);

  const std::string success = begin("request_success_total", "counter", "Finished choices.");
  for (const auto& [reason, count] : finished_)
    fmt::format_to(std::back_inserter(out), "{}{{{},finished_reason=\"{}\"}} {}\n", success, labels, reason, count);
  const std::string http = begin("http_responses_total", "counter", "Responses by route and status.");
  for (const auto& [key, count] : answered_)
    fmt::format_to(std::back_inserter(out), "{}{{{},route=\"{}\",status=\"{}\"}} {}\n", http, labels, key.first,
                   key.second, count);

  histogram("time_to_first_token_seconds", "From the request to its first token.", ttft_);
  histogram("inter_token_latency_seconds", "From token to token.", itl_);
  histogram("e2e_request_latency_seconds", "From the request to the end of a choice.", e2e_);
  histogram("request_queue_time_seconds", "From the request to its first step.", queue_);
  histogram("request_prompt_tokens", "Prompt tokens of a choice.", prompt_);
  histogram("request_generation_tokens", "Generated tokens of a choice.", generation_);

  const std::string steps = begin("iteration_tokens_total", "histogram", "Tokens of a step of the engine.");
  int64_t count = 0;
  for (size_t i = 0; i < engine.steps_by_size.size(); ++i) {
    count += engine.steps_by_size[i];
    const bool is_last = i + 1 == engine.steps_by_size.size();
    fmt::format_to(std::back_inserter(out), "{}_bucket{{{},le=\"{}\"}} {}\n", steps, labels,
                   is_last ? "+Inf" : fmt::format("{}", 1 << i), count);
  }
  fmt::format_to(std::back_inserter(out), "{}_sum{{{}}} {}\n{}_count{{{}}} {}\n", steps, labels, engine.num_step_tokens,
                 steps, labels, engine.num_steps);
  return out;
}

}  // namespace comet::server
