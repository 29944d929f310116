// SPDX-License-Identifier: Apache-2.0
// comet bench serve: load on a server of OpenAI's API.
#include "comet/bench_serve.h"

#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "command.h"
#include "console.h"

namespace comet::app {
namespace {

constexpr int kDefaultConcurrency = 8;

struct Options {
  api::BenchServeOptions bench;
  std::vector<std::string> goodput;
  std::string endpoint = "completions", dataset = "random", output, plot;
  bool as_json = false, quiet = false;
};

api::BenchDataset dataset_of(const std::string& name) {
  if (name == "prefix") return api::BenchDataset::prefix;
  if (name == "trace-azure") return api::BenchDataset::trace_azure;
  return name == "trace-mooncake" ? api::BenchDataset::trace_mooncake : api::BenchDataset::random;
}

// ttft:500 and so on.
std::map<std::string, double> parse_goodput(const std::vector<std::string>& limits) {
  std::map<std::string, double> out;
  for (const std::string& limit : limits) {
    const size_t colon = limit.find(':');
    char* end = nullptr;
    const double ms = colon == std::string::npos ? NAN : std::strtod(limit.c_str() + colon + 1, &end);
    if (!std::isfinite(ms) || end == limit.c_str() + colon + 1 || *end != '\0')
      throw UserError(fmt::format("--goodput {}: expected NAME:MILLISECONDS, such as ttft:500", limit));
    out[limit.substr(0, colon)] = ms;
  }
  return out;
}

// Under a temporary name first: a file of this name is always whole.
void write_file(const std::string& file, const std::string& text) {
  const std::string part = file + ".part";
  std::ofstream out(part, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (!out) throw UserError(fmt::format("cannot write {}: {}", part, std::strerror(errno)));
  std::error_code error;
  std::filesystem::rename(part, file, error);
  if (error) throw UserError(fmt::format("cannot write {}: {}", file, error.message()));
}

void check_writable(const std::string& file) {
  if (file.empty()) return;
  const std::filesystem::path folder = std::filesystem::absolute(file).parent_path();
  if (!std::filesystem::is_directory(folder))
    throw UserError(fmt::format("cannot write {}: there is no folder {}", file, folder.string()));
}

std::string share(int64_t part, int64_t whole) {
  return whole > 0 ? fmt::format("{:.1f}%", 100.0 * static_cast<double>(part) / static_cast<double>(whole)) : "-";
}

void print_counts(const api::BenchServeResult& r, const Options& o) {
  std::vector<std::vector<std::string>> rows = {{r.model, ""}};
  const auto add = [&](const std::string& name, const std::string& value) { rows.push_back({name, value}); };
  add("requests completed", fmt::format("{} of {}", r.num_completed, r.num_requests));
  for (const auto& [kind, count] : r.failures) add("failed: " + kind, fmt::format("{}", count));
  if (r.num_unfinished > 0) add("not finished", fmt::format("{}", r.num_unfinished));
  add("duration", fmt::format("{:.2f} s", r.duration_s));
  add("open requests, mean", fmt::format("{:.1f}", r.mean_concurrency));
  add("requests/s", fmt::format("{:.2f}", r.request_throughput));
  if (!o.bench.goodput.empty()) add("goodput, requests/s", fmt::format("{:.2f}", r.goodput));
  add("output tokens/s", fmt::format("{:.1f}", r.output_throughput));
  add("total tokens/s", fmt::format("{:.1f}", r.total_throughput));
  add("prompt tokens", fmt::format("{}", r.prompt_tokens));
  add("output tokens", fmt::format("{}", r.output_tokens));
  add("cached prompt tokens", fmt::format("{} ({})", r.cached_tokens, share(r.cached_tokens, r.prompt_tokens)));
  if (r.ideal_hit_tokens > 0) {
    add("  of an ideal cache's",
        fmt::format("{} ({})", r.ideal_hit_tokens, share(r.cached_tokens, r.ideal_hit_tokens)));
    if (o.bench.ideal_blocks > 0)
      add(fmt::format("  of an ideal LRU's of {} blocks", o.bench.ideal_blocks),
          fmt::format("{} ({})", r.ideal_lru_hit_tokens, share(r.cached_tokens, r.ideal_lru_hit_tokens)));
  }
  if (r.is_open_loop && r.lateness.count > 0)
    add("sent late, p99", fmt::format("{:.2f} ms", r.lateness.percentiles[0].second));
  add("client CPU", fmt::format("{:.1f} us/token, {:.0f}% of a core", r.cpu_us_per_token, 100 * r.cpu_utilization));
  fmt::print("{}", format_table(rows));
}

void print_latencies(const api::BenchServeResult& r) {
  std::vector<std::vector<std::string>> rows = {{"ms", "mean", "median"}};
  for (const auto& percentile : r.ttft.percentiles) rows[0].push_back(fmt::format("p{:g}", percentile.first));
  rows[0].push_back("max");
  const auto add = [&](const char* name, const api::BenchDistribution& d) {
    std::vector<double> values = {d.mean, d.median};
    for (const auto& percentile : d.percentiles) values.push_back(percentile.second);
    values.push_back(d.max);
    rows.push_back({name});
    for (const double v : values) rows.back().push_back(d.count > 0 ? fmt::format("{:.2f}", v) : "-");
  };
  add("TTFT (time to first token)", r.ttft);
  add("TPOT (time per output token after it)", r.tpot);
  add("ITL (between events with text)", r.itl);
  add("E2EL (end to end)", r.e2el);
  fmt::print("\n{}", format_table(rows));
}

int run_bench_serve(Options& o) {
  api::BenchServeOptions& b = o.bench;
  b.goodput = parse_goodput(o.goodput);
  b.endpoint = o.endpoint == "chat" ? api::BenchEndpoint::chat : api::BenchEndpoint::completions;
  b.dataset = dataset_of(o.dataset);
  if (const char* key = std::getenv("COMET_API_KEY"); b.api_key.empty() && key != nullptr) b.api_key = key;
  const bool is_trace = o.dataset.starts_with("trace-");
  const bool has_schedule = is_trace ? std::isfinite(b.trace_speed) : b.request_rate > 0;
  if (b.concurrency == 0 && !has_schedule) b.concurrency = kDefaultConcurrency;
  if (b.detailed && o.output.empty()) throw UserError("--save-detailed goes with --output FILE.json");
  check_writable(o.output);
  check_writable(o.plot);
  api::BenchServeResult r;
  {
    ProgressBar bar("requests", o.quiet);
    r = api::bench_serve(b, [&](int done, int total, int failed) {
      bar.update(done, total, failed > 0 ? fmt::format("{} failed", failed) : "");
    });
  }
  if (!o.output.empty()) write_file(o.output, r.json);
  if (!o.plot.empty()) write_file(o.plot, r.svg);
  if (o.as_json) {
    fmt::print("{}", r.json);
  } else {
    print_counts(r, o);
    print_latencies(r);
  }
  for (const std::string& warning : r.warnings) fmt::print(stderr, "warning: {}\n", warning);
  if (r.num_failed > 0) fmt::print(stderr, "comet: the first failed request: {}\n", r.first_failure);
  if (r.is_interrupted) fmt::print(stderr, "comet: interrupted; this is what was done until then\n");
  return r.is_interrupted || (r.num_completed == 0 && r.num_requests > 0) ? 1 : 0;
}

void add_load_flags(CLI::App& c, Options& o) {
  api::BenchServeOptions& b = o.bench;
  c.add_option("--base-url", b.base_url, "The server, without /v1")->capture_default_str();
  c.add_option("--model", b.model, "Name to ask for (default: the first of /v1/models)");
  c.add_option("--api-key", b.api_key, "Sent with every request (better: COMET_API_KEY)");
  c.add_option("--endpoint", o.endpoint, "completions (prompts are token ids) or chat (prompts are words)")
      ->check(CLI::IsMember({"completions", "chat"}))
      ->capture_default_str();
  c.add_option("--concurrency", b.concurrency,
               "Most open requests (default: 8 without a rate or a trace, else no limit)")
      ->check(CLI::PositiveNumber);
  c.add_option("--request-rate", b.request_rate,
               "Open loop: requests a second, as a Poisson process; inf sends all at once");
  c.add_option("--burstiness", b.burstiness, "Shape of the gaps: 1 Poisson, below 1 burstier, above 1 more even")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c.add_option("--warmup", b.warmup, "Requests before the measurement")->check(CLI::NonNegativeNumber);
  c.add_option("--wait", b.wait_s, "Seconds to wait for a server that is not ready")->check(CLI::NonNegativeNumber);
  c.add_option("--timeout", b.timeout_s, "Seconds until a request is given up")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c.add_option("--seed", b.seed, "Of prompts, lengths and arrivals")->capture_default_str();
  c.add_option("--temperature", b.temperature, "Of every request")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  c.add_flag("!--no-ignore-eos", b.ignore_eos, "Let answers end before their length");
  c.add_option("--extra-body", b.extra_body, "JSON object with further fields of every request");
}

void add_workload_flags(CLI::App& c, Options& o) {
  api::BenchServeOptions& b = o.bench;
  c.add_option("--dataset", o.dataset, "What is asked")
      ->check(CLI::IsMember({"random", "prefix", "trace-azure", "trace-mooncake"}))
      ->capture_default_str();
  c.add_option("trace", b.trace_file, "File of the trace: Azure's CSV, Mooncake's JSON lines");
  c.add_option("--num-prompts", b.num_prompts, "random, prefix: requests")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c.add_option("--input-len", b.input_len, "random: prompt tokens")->check(CLI::PositiveNumber)->capture_default_str();
  c.add_option("--output-len", b.output_len, "random, prefix: output tokens")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c.add_option("--range-ratio", b.range_ratio, "random: lengths vary by this share to both sides")
      ->check(CLI::Range(0.0, 0.999))
      ->capture_default_str();
  c.add_option("--prefix-len", b.prefix_len, "prefix: tokens that requests share")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c.add_option("--num-prefixes", b.num_prefixes, "prefix: different ones")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c.add_option("--suffix-len", b.suffix_len, "prefix: tokens of each request's own")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c.add_option("--trace-speed", b.trace_speed, "traces: 2 sends twice as fast; inf as fast as --concurrency allows")
      ->capture_default_str();
  c.add_option("--length-divisor", b.length_divisor, "traces: divide all lengths; Mooncake: by a divisor of 512")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c.add_option("--max-requests", b.max_requests, "traces: only the first ones")->check(CLI::PositiveNumber);
  c.add_option("--vocab-size", b.vocab_size, "Prompts take ids below it (default: the server's, else 256)")
      ->check(CLI::PositiveNumber);
}

}  // namespace

void add_bench_serve(CLI::App& bench, Run& run) {
  auto o = std::make_shared<Options>();
  api::BenchServeOptions& b = o->bench;
  CLI::App* c = bench.add_subcommand("serve", "Latency and throughput of a server of OpenAI's API under load");
  add_load_flags(*c, *o);
  add_workload_flags(*c, *o);
  c->add_option("--percentiles", b.percentiles, "Of latencies, such as 50,90,99.9 (default: 90,99)")->delimiter(',');
  c->add_option("--goodput", o->goodput, "Count requests within limits in ms: ttft:500 tpot:50 e2el:5000");
  c->add_option("--ideal-blocks", b.ideal_blocks,
                "Compare cached tokens with an ideal LRU of so many blocks of 64 tokens")
      ->check(CLI::PositiveNumber);
  c->add_option("--output", o->output, "Write all figures as JSON");
  c->add_flag("--save-detailed", b.detailed, "With a row for each request in --output");
  c->add_option("--plot", o->plot, "Write an SVG: CDFs of the latencies, throughput over time");
  c->add_flag("--json", o->as_json, "Print the JSON instead of tables");
  c->add_flag("-q,--quiet", o->quiet, "No progress");
  c->footer(
      "Examples:\n"
      "  comet bench serve --concurrency 16 --num-prompts 200 --input-len 256 --output-len 64\n"
      "  comet bench serve --request-rate 10 --goodput ttft:500 tpot:50 --plot load.svg\n"
      "  comet bench serve --dataset prefix --prefix-len 512 --num-prefixes 8 --output prefix.json\n"
      "  comet bench serve --dataset trace-mooncake trace.jsonl --length-divisor 8 --max-requests 500 --ideal-blocks "
      "4096");
  c->callback([o, &run] {
    const bool is_trace = o->dataset.starts_with("trace-");
    if (is_trace && o->bench.trace_file.empty()) throw CLI::RequiredError("trace");
    if (!is_trace && !o->bench.trace_file.empty())
      throw CLI::ValidationError("trace", "a file goes with --dataset trace-azure or trace-mooncake");
    run = [o] { return run_bench_serve(*o); };
  });
}

}  // namespace comet::app
