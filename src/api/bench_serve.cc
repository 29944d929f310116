// SPDX-License-Identifier: Apache-2.0
#include "comet/bench_serve.h"

#include "base/check.h"

#ifndef COMET_HAS_SERVER

comet::api::BenchServeResult comet::api::bench_serve(const BenchServeOptions&, const BenchProgress&) {
  throw_unsupported("this program was built without its load generator: that takes g++ 12 or clang 15");
}

#else

#include <algorithm>
#include <cmath>

#include "loadgen/load.h"
#include "loadgen/probe.h"
#include "loadgen/report.h"
#include "loadgen/statistics.h"
#include "plot/chart.h"

namespace comet::api {
namespace {

constexpr int kWarmupConcurrency = 8;
constexpr double kBucketsInPlot = 120;

plot::Chart cdf_chart(const char* title, const char* label, std::vector<double> values) {
  return {.title = title,
          .x = {.label = label, .is_log = true},
          .y = {.label = "share of values up to x", .ticks = {0, 0.1, 0.25, 0.5, 0.75, 0.9, 1}},
          .form = plot::Form::step,
          .series = {plot::cdf("", std::move(values))}};
}

plot::Chart throughput_chart(std::span<const loadgen::RequestRecord> records, double duration_s) {
  const double bucket_s = std::max(duration_s / kBucketsInPlot, 1e-3);
  plot::Series series{.name = "", .x = {}, .y = loadgen::output_rate(records, duration_s, bucket_s)};
  for (size_t i = 0; i < series.y.size(); ++i) series.x.push_back((static_cast<double>(i) + 0.5) * bucket_s);
  return {.title = fmt::format("Output throughput (means of {:.2g} s)", bucket_s),
          .x = {.label = "time since the beginning (s)", .has_zero = true},
          .y = {.label = "output tokens/s", .has_zero = true},
          .series = {std::move(series)}};
}

std::string draw(const loadgen::LoadOutcome& outcome, const BenchServeResult& r) {
  loadgen::Latencies l = loadgen::latencies_of(outcome.records);
  const std::vector<plot::Chart> charts = {
      cdf_chart("Time to first token (TTFT)", "TTFT (ms)", std::move(l.ttft)),
      cdf_chart("Inter-token latency (ITL)", "time between two events with text (ms)", std::move(l.itl)),
      cdf_chart("End-to-end latency (E2EL)", "E2EL (ms)", std::move(l.e2el)),
      throughput_chart(outcome.records, outcome.duration_s)};
  const std::vector<std::string> lines = {
      fmt::format("{}: {} requests completed, {} failed in {:.1f} s; {:.2f} requests/s, {:.0f} output tokens/s, {:.0f} "
                  "tokens/s with "
                  "prompts; {:.1f} open requests on average",
                  r.model, r.num_completed, r.num_failed, r.duration_s, r.request_throughput, r.output_throughput,
                  r.total_throughput, r.mean_concurrency)};
  return plot::to_svg("comet bench serve", lines, charts);
}

}  // namespace

BenchServeResult bench_serve(const BenchServeOptions& options, const BenchProgress& progress) {
  loadgen::check_goodput(options.goodput);
  for (const double p : options.percentiles)
    if (!(p >= 0 && p <= 100)) throw_invalid("--percentiles: {} is not from 0 to 100", p);
  const loadgen::BaseUrl url = loadgen::parse_base_url(options.base_url);
  const loadgen::Target checked(options, url, "", loadgen::kDefaultVocab);  // before the server is asked
  if (options.vocab_size != 0 && options.vocab_size <= loadgen::kFirstId)
    throw_invalid("--vocab-size is {}, expected above {}", options.vocab_size, loadgen::kFirstId);
  const loadgen::ServerInfo server = loadgen::probe(url, options);
  const int told = server.vocab_size > loadgen::kFirstId ? server.vocab_size : loadgen::kDefaultVocab;
  const int vocab_size = options.vocab_size > 0 ? options.vocab_size : told;
  const loadgen::Target target(options, url, server.model, vocab_size);
  const loadgen::Workload workload = loadgen::make_workload(options, server.context);

  loadgen::LoadOptions load{
      .concurrency = options.concurrency, .is_scheduled = workload.is_scheduled, .timeout_s = options.timeout_s};
  if (options.warmup > 0) {
    loadgen::LoadOptions warm{.concurrency = options.concurrency > 0 ? options.concurrency : kWarmupConcurrency,
                              .is_scheduled = false,
                              .timeout_s = options.timeout_s};
    const auto requests = loadgen::make_warmup(workload, options.warmup, options.seed);
    const loadgen::LoadOutcome outcome = loadgen::run_load(target, requests, warm);
    if (outcome.is_interrupted) throw Error("interrupted before the measurement");
    for (const loadgen::RequestRecord& r : outcome.records)
      if (r.status == loadgen::RequestRecord::Status::failed)
        throw_invalid("a warm-up request failed: {}: {}", r.failure, r.message);
  }
  const loadgen::LoadOutcome outcome = loadgen::run_load(target, workload.requests, load, progress);
  BenchServeResult result = loadgen::make_report(
      {.options = options, .workload = workload, .outcome = outcome, .model = server.model, .vocab_size = vocab_size});
  result.svg = draw(outcome, result);
  return result;
}

}  // namespace comet::api

#endif
