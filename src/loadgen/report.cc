// SPDX-License-Identifier: Apache-2.0
#include "loadgen/report.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/check.h"
#include "loadgen/ideal_cache.h"
#include "loadgen/statistics.h"

namespace comet::loadgen {
namespace {

using api::BenchDistribution;
using api::BenchServeOptions;
using api::BenchServeResult;
using Json = nlohmann::json;
using Status = RequestRecord::Status;

constexpr double kMostLateness = 10;         // ms at the 99th percentile
constexpr double kMostCpuUtilization = 0.8;  // of one core

void count_requests(const Run& run, BenchServeResult& r) {
  r.num_requests = static_cast<int>(run.outcome.records.size());
  double open_s = 0;
  for (const RequestRecord& record : run.outcome.records) {
    switch (record.status) {
      case Status::completed:
        r.num_completed += 1;
        r.prompt_tokens += record.prompt_tokens;
        r.output_tokens += record.output_tokens;
        r.cached_tokens += record.cached_tokens;
        break;
      case Status::failed:
        if (r.num_failed++ == 0)
          r.first_failure = record.failure + (record.message.empty() ? "" : ": " + record.message);
        r.failures[record.failure] += 1;
        break;
      case Status::open:
      case Status::unsent: r.num_unfinished += 1; break;
    }
    if (record.status != Status::unsent) open_s += record.end_s - record.start_s;
  }
  if (r.duration_s > 0) r.mean_concurrency = open_s / r.duration_s;
}

void set_rates(const Run& run, BenchServeResult& r) {
  if (!(r.duration_s > 0)) return;
  r.request_throughput = r.num_completed / r.duration_s;
  r.output_throughput = static_cast<double>(r.output_tokens) / r.duration_s;
  r.total_throughput = static_cast<double>(r.prompt_tokens + r.output_tokens) / r.duration_s;
  const auto num_good = std::count_if(run.outcome.records.begin(), run.outcome.records.end(), [&](const auto& record) {
    return record.status == Status::completed && is_good(record, run.options.goodput);
  });
  r.goodput = static_cast<double>(num_good) / r.duration_s;
  r.cpu_utilization = run.outcome.cpu_s / r.duration_s;
  if (r.output_tokens > 0) r.cpu_us_per_token = run.outcome.cpu_s * 1e6 / static_cast<double>(r.output_tokens);
}

// Of the completed requests in the order in which they were sent.
void set_ideal_hits(const Run& run, BenchServeResult& r) {
  if (run.options.endpoint == api::BenchEndpoint::chat) return;  // the server's template decides its tokens
  std::vector<size_t> order;
  for (size_t i = 0; i < run.outcome.records.size(); ++i)
    if (run.outcome.records[i].status == Status::completed) order.push_back(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return run.outcome.records[a].start_s < run.outcome.records[b].start_s; });
  IdealCache infinite(0), lru(static_cast<size_t>(run.options.ideal_blocks));
  for (const size_t i : order) {
    const std::vector<int32_t> ids = prompt_ids(run.workload.requests[i], run.vocab_size);
    r.ideal_hit_tokens += infinite.add(ids);
    if (run.options.ideal_blocks > 0) r.ideal_lru_hit_tokens += lru.add(ids);
  }
}

void set_lateness(const Run& run, BenchServeResult& r) {
  r.is_open_loop = run.workload.is_scheduled;
  if (!r.is_open_loop) return;
  std::vector<double> late_ms;
  for (const RequestRecord& record : run.outcome.records)
    if (record.status != Status::unsent) late_ms.push_back((record.start_s - record.planned_s) * 1000);
  r.lateness = summarize(std::move(late_ms), std::vector{99.0});
}

void add_warnings(const Run& run, BenchServeResult& r) {
  if (run.workload.num_too_long > 0)
    r.warnings.push_back(fmt::format("{} requests of the trace do not fit the model's context and were left out",
                                     run.workload.num_too_long));
  if (r.is_open_loop && r.lateness.count > 0 && r.lateness.percentiles[0].second > kMostLateness)
    r.warnings.push_back(fmt::format("requests went out late (p99 {:.0f} ms): {}; latencies do not contain this wait",
                                     r.lateness.percentiles[0].second,
                                     run.options.concurrency > 0
                                         ? "--concurrency held them back, or this client is too slow"
                                         : "this client is too slow for the rate"));
  if (r.cpu_utilization > kMostCpuUtilization)
    r.warnings.push_back(
        fmt::format("this client was busy {:.0f}% of the time: it may be the bottleneck", 100 * r.cpu_utilization));
  const bool lacks_usage = std::any_of(run.outcome.records.begin(), run.outcome.records.end(), [](const auto& record) {
    return record.status == Status::completed && !record.has_usage;
  });
  if (lacks_usage) r.warnings.push_back("the server sent no usage: events with text were counted as tokens");
}

std::string percentile_name(double p) { return fmt::format("p{:g}", p); }

// vLLM's names, so that what reads its files reads these.
void add_distribution(Json& json, const std::string& name, const BenchDistribution& d) {
  json["mean_" + name + "_ms"] = d.mean;
  json["median_" + name + "_ms"] = d.median;
  json["max_" + name + "_ms"] = d.max;
  for (const auto& [p, value] : d.percentiles) json[percentile_name(p) + "_" + name + "_ms"] = value;
}

const char* status_name(Status s) {
  switch (s) {
    case Status::completed: return "completed";
    case Status::failed: return "failed";
    case Status::open: return "open";
    case Status::unsent: return "unsent";
  }
  return "";
}

Json details(const Run& run) {
  Json rows = Json::array();
  for (size_t i = 0; i < run.outcome.records.size(); ++i) {
    const RequestRecord& record = run.outcome.records[i];
    const Request& request = run.workload.requests[i];
    Json row = {{"status", status_name(record.status)},
                {"input_len", request.input_len()},
                {"output_len", request.output_len},
                {"start_s", record.start_s},
                {"end_s", record.end_s}};
    if (run.workload.is_scheduled) row["planned_s"] = record.planned_s;
    if (record.status == Status::failed) row["error"] = record.failure, row["message"] = record.message;
    if (record.status == Status::completed) {
      row["prompt_tokens"] = record.prompt_tokens;
      row["output_tokens"] = record.output_tokens;
      row["cached_tokens"] = record.cached_tokens;
      row["ttft_ms"] = record.ttft_s() * 1000;
      row["tpot_ms"] = record.tpot_s() * 1000;
      row["e2el_ms"] = record.e2el_s() * 1000;
      row["event_s"] = record.event_s;
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

const char* dataset_name(api::BenchDataset d) {
  switch (d) {
    case api::BenchDataset::random: return "random";
    case api::BenchDataset::prefix: return "prefix";
    case api::BenchDataset::trace_azure: return "trace-azure";
    case api::BenchDataset::trace_mooncake: return "trace-mooncake";
  }
  return "";
}

Json settings(const BenchServeOptions& o) {
  Json s = {{"base_url", o.base_url},
            {"endpoint", o.endpoint == api::BenchEndpoint::chat ? "chat" : "completions"},
            {"dataset", dataset_name(o.dataset)},
            {"seed", o.seed},
            {"temperature", o.temperature},
            {"ignore_eos", o.ignore_eos},
            {"warmup", o.warmup},
            {"max_concurrency", o.concurrency > 0 ? Json(o.concurrency) : Json()}};
  if (o.request_rate > 0) s["request_rate"] = o.request_rate, s["burstiness"] = o.burstiness;
  if (!o.trace_file.empty())
    s["trace"] = o.trace_file, s["trace_speed"] = o.trace_speed, s["length_divisor"] = o.length_divisor;
  if (o.dataset == api::BenchDataset::random)
    s["input_len"] = o.input_len, s["output_len"] = o.output_len, s["range_ratio"] = o.range_ratio;
  if (o.dataset == api::BenchDataset::prefix)
    s["prefix_len"] = o.prefix_len, s["num_prefixes"] = o.num_prefixes, s["suffix_len"] = o.suffix_len,
    s["output_len"] = o.output_len;
  if (!o.goodput.empty()) s["goodput_ms"] = o.goodput;
  if (!o.extra_body.empty()) s["extra_body"] = o.extra_body;
  return s;
}

std::string to_json(const Run& run, const BenchServeResult& r) {
  const std::time_t now = std::time(nullptr);
  char date[32];
  std::strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  Json json = {{"date", date},
               {"model_id", r.model},
               {"settings", settings(run.options)},
               {"num_prompts", r.num_requests},
               {"completed", r.num_completed},
               {"failed", r.num_failed},
               {"unfinished", r.num_unfinished},
               {"interrupted", r.is_interrupted},
               {"failures", r.failures},
               {"duration", r.duration_s},
               {"total_input_tokens", r.prompt_tokens},
               {"total_output_tokens", r.output_tokens},
               {"cached_tokens", r.cached_tokens},
               {"ideal_hit_tokens", r.ideal_hit_tokens},
               {"request_throughput", r.request_throughput},
               {"output_throughput", r.output_throughput},
               {"total_token_throughput", r.total_throughput},
               {"mean_concurrency", r.mean_concurrency},
               {"client_cpu_us_per_token", r.cpu_us_per_token},
               {"client_cpu_utilization", r.cpu_utilization},
               {"warnings", r.warnings}};
  if (run.options.ideal_blocks > 0)
    json["ideal_blocks"] = run.options.ideal_blocks, json["ideal_lru_hit_tokens"] = r.ideal_lru_hit_tokens;
  if (!run.options.goodput.empty()) json["request_goodput"] = r.goodput;
  add_distribution(json, "ttft", r.ttft);
  add_distribution(json, "tpot", r.tpot);
  add_distribution(json, "itl", r.itl);
  add_distribution(json, "e2el", r.e2el);
  if (r.is_open_loop) add_distribution(json, "lateness", r.lateness);
  if (run.options.detailed) json["requests"] = details(run);
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

Latencies latencies_of(std::span<const RequestRecord> records) {
  Latencies l;
  for (const RequestRecord& r : records) {
    if (r.status != Status::completed) continue;
    l.ttft.push_back(r.ttft_s() * 1000);
    l.e2el.push_back(r.e2el_s() * 1000);
    if (r.output_tokens > 1) l.tpot.push_back(r.tpot_s() * 1000);
    for (size_t i = 1; i < r.event_s.size(); ++i) l.itl.push_back((r.event_s[i] - r.event_s[i - 1]) * 1000);
  }
  return l;
}

std::vector<double> output_rate(std::span<const RequestRecord> records, double duration_s, double bucket_s) {
  COMET_CHECK(bucket_s > 0);
  std::vector<double> rate(static_cast<size_t>(std::ceil(std::max(duration_s, bucket_s) / bucket_s)));
  for (const RequestRecord& r : records) {
    if (r.status != Status::completed || r.event_s.empty()) continue;
    const double tokens = static_cast<double>(r.output_tokens) / static_cast<double>(r.event_s.size());
    for (const double t : r.event_s)
      rate[std::min(static_cast<size_t>(std::max(t, 0.0) / bucket_s), rate.size() - 1)] += tokens / bucket_s;
  }
  return rate;
}

BenchServeResult make_report(const Run& run) {
  BenchServeResult r;
  r.model = run.model;
  r.duration_s = run.outcome.duration_s;
  r.is_interrupted = run.outcome.is_interrupted;
  count_requests(run, r);
  set_rates(run, r);
  set_ideal_hits(run, r);
  set_lateness(run, r);
  Latencies l = latencies_of(run.outcome.records);
  const std::vector<double>& percentiles = run.options.percentiles;
  r.ttft = summarize(std::move(l.ttft), percentiles);
  r.tpot = summarize(std::move(l.tpot), percentiles);
  r.itl = summarize(std::move(l.itl), percentiles);
  r.e2el = summarize(std::move(l.e2el), percentiles);
  add_warnings(run, r);
  r.json = to_json(run, r);
  return r;
}

}  // namespace comet::loadgen
