// SPDX-License-Identifier: Apache-2.0
#include "loadgen/workload.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "loadgen/random.h"
#include "loadgen/trace.h"

namespace comet::loadgen {
namespace {

using api::BenchDataset;
using api::BenchServeOptions;

// What a key is for: keys of different purposes never meet.
enum Purpose : uint64_t { kPrompt = 1, kPrefix, kSuffix, kWarmup, kLengths, kArrivals };

// Short words that most vocabularies have as one token.
constexpr std::array<const char*, 64> kWords = {
    "the",  "of",   "and",  "to",   "in",   "is",    "was",   "he",    "for",   "it",    "with",  "as",   "his",
    "on",   "be",   "at",   "by",   "had",  "not",   "are",   "but",   "from",  "or",    "have",  "an",   "they",
    "one",  "you",  "were", "her",  "all",  "she",   "there", "would", "their", "we",    "him",   "been", "has",
    "when", "who",  "will", "more", "no",   "if",    "out",   "so",    "said",  "what",  "up",    "its",  "about",
    "into", "than", "them", "can",  "only", "other", "new",   "some",  "time",  "could", "these", "two"};

void check(const BenchServeOptions& o) {
  const auto at_least = [](const char* name, double value, double least) {
    if (!(value >= least)) throw_invalid("{} is {}, expected at least {}", name, value, least);
  };
  at_least("--num-prompts", o.num_prompts, 1);
  at_least("--input-len", o.input_len, 1);
  at_least("--output-len", o.output_len, 1);
  at_least("--prefix-len", o.prefix_len, 1);
  at_least("--suffix-len", o.suffix_len, 1);
  at_least("--num-prefixes", o.num_prefixes, 1);
  at_least("--length-divisor", o.length_divisor, 1);
  at_least("--max-requests", o.max_requests, 0);
  at_least("--concurrency", o.concurrency, 0);
  at_least("--request-rate", o.request_rate, 0);
  at_least("--warmup", o.warmup, 0);
  if (!(o.range_ratio >= 0 && o.range_ratio < 1))
    throw_invalid("--range-ratio is {}, expected 0 to below 1", o.range_ratio);
  if (!(o.trace_speed > 0)) throw_invalid("--trace-speed is {}, expected a number above 0, or inf", o.trace_speed);
  if (!(o.burstiness > 0 && std::isfinite(o.burstiness)))
    throw_invalid("--burstiness is {}, expected a number above 0", o.burstiness);
}

int draw_length(Random& random, int length, double ratio) {
  const int lo = std::max(1, static_cast<int>(std::lround(length * (1 - ratio))));
  return random.integer(lo, std::max(lo, static_cast<int>(std::lround(length * (1 + ratio)))));
}

std::vector<Request> random_requests(const BenchServeOptions& o) {
  Random random(mix(o.seed, kLengths));
  std::vector<Request> out(static_cast<size_t>(o.num_prompts));
  for (size_t i = 0; i < out.size(); ++i) {
    const int input = draw_length(random, o.input_len, o.range_ratio);
    out[i].segments = {{mix(mix(o.seed, kPrompt), i), input}};
    out[i].output_len = draw_length(random, o.output_len, o.range_ratio);
  }
  return out;
}

std::vector<Request> prefix_requests(const BenchServeOptions& o) {
  Random random(mix(o.seed, kLengths));
  std::vector<Request> out(static_cast<size_t>(o.num_prompts));
  for (size_t i = 0; i < out.size(); ++i) {
    const uint64_t prefix = static_cast<uint64_t>(random.integer(0, o.num_prefixes - 1));
    out[i].segments = {{mix(mix(o.seed, kPrefix), prefix), o.prefix_len}, {mix(mix(o.seed, kSuffix), i), o.suffix_len}};
    out[i].output_len = o.output_len;
  }
  return out;
}

// Gaps are gamma-distributed with the mean 1 / rate; shape 1 is a Poisson process. The first request goes at once.
void plan_arrivals(std::vector<Request>& requests, const BenchServeOptions& o) {
  Random random(mix(o.seed, kArrivals));
  double now = 0;
  for (Request& r : requests) {
    r.planned_s = now;
    now += random.gamma(o.burstiness) / (o.burstiness * o.request_rate);
  }
}

void fit_context(Workload& w, int context, bool is_trace) {
  if (context <= 0) return;
  const auto is_too_long = [&](const Request& r) { return r.input_len() + r.output_len > context; };
  const size_t before = w.requests.size();
  const auto longest = std::max_element(w.requests.begin(), w.requests.end(), [](const Request& a, const Request& b) {
    return a.input_len() + a.output_len < b.input_len() + b.output_len;
  });
  const int most = longest->input_len() + longest->output_len;
  if (most <= context) return;
  if (!is_trace)
    throw_invalid("requests of {} + {} tokens do not fit the model's context of {}", longest->input_len(),
                  longest->output_len, context);
  std::erase_if(w.requests, is_too_long);
  w.num_too_long = static_cast<int>(before - w.requests.size());
  if (w.requests.empty())
    throw_invalid(
        "no request of the trace fits the model's context of {}: they have up to {} tokens; --length-divisor "
        "makes them shorter",
        context, most);
}

}  // namespace

int Request::input_len() const {
  int n = 0;
  for (const Segment& s : segments) n += s.length;
  return n;
}

std::vector<int32_t> prompt_ids(const Request& request, int vocab_size) {
  COMET_CHECK(vocab_size > kFirstId);
  std::vector<int32_t> out;
  out.reserve(static_cast<size_t>(request.input_len()));
  const uint32_t n = static_cast<uint32_t>(vocab_size - kFirstId);
  for (const Segment& s : request.segments)
    for (int j = 0; j < s.length; ++j)
      out.push_back(kFirstId + static_cast<int32_t>(below(mix(s.key + static_cast<uint64_t>(j)), n)));
  return out;
}

std::string prompt_text(const Request& request) {
  std::string out;
  for (const int32_t id : prompt_ids(request, kFirstId + static_cast<int>(kWords.size()))) {
    if (!out.empty()) out += ' ';
    out += kWords[static_cast<size_t>(id - kFirstId)];
  }
  return out;
}

Workload make_workload(const BenchServeOptions& o, int context) {
  check(o);
  Workload w;
  const bool is_trace = o.dataset == BenchDataset::trace_azure || o.dataset == BenchDataset::trace_mooncake;
  if (is_trace) {
    if (o.request_rate > 0)
      throw_invalid("--request-rate does not go with a trace, which has its own times: --trace-speed changes them");
    w.requests = o.dataset == BenchDataset::trace_azure ? read_azure_trace(o) : read_mooncake_trace(o);
    w.is_scheduled = std::isfinite(o.trace_speed);
  } else {
    w.requests = o.dataset == BenchDataset::random ? random_requests(o) : prefix_requests(o);
    w.is_scheduled = o.request_rate > 0 && std::isfinite(o.request_rate);
    if (w.is_scheduled) plan_arrivals(w.requests, o);
  }
  fit_context(w, context, is_trace);
  return w;
}

std::vector<Request> make_warmup(const Workload& workload, int count, uint64_t seed) {
  std::vector<Request> out;
  for (int i = 0; i < count; ++i) {
    const Request& like = workload.requests[static_cast<size_t>(i) % workload.requests.size()];
    out.push_back({.planned_s = 0,
                   .output_len = like.output_len,
                   .segments = {{mix(mix(seed, kWarmup), static_cast<uint64_t>(i)), like.input_len()}}});
  }
  return out;
}

}  // namespace comet::loadgen
