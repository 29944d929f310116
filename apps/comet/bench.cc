// SPDX-License-Identifier: Apache-2.0
// comet bench; bench latency: prefill and decode speed of one sequence.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "command.h"
#include "console.h"

namespace comet::app {
namespace {

struct LatencyOptions {
  api::LoadOptions load;
  int prompt = 512, output = 128, repeat = 3;
  bool as_json = false, quiet = false;
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

int bench_latency(LatencyOptions& o) {
  if (o.load.max_model_len == 0) o.load.max_model_len = o.prompt + o.output;
  o.load.max_batch_seqs = 1;
  const std::unique_ptr<api::LanguageModel> model = load_model(o.load, o.quiet || o.as_json);
  std::vector<double> prefill, decode;
  ProgressBar bar("measuring", o.quiet);
  for (int i = 0; i < o.repeat; ++i) {
    bar.update(i, o.repeat);
    const api::LatencyResult r = model->latency(o.prompt, o.output);
    prefill.push_back(r.prompt_tokens / r.prefill_seconds);
    if (r.output_tokens > 0) decode.push_back(r.output_tokens / r.decode_seconds);
  }
  bar.update(o.repeat, o.repeat);
  const api::ModelInfo& info = model->info();
  if (o.as_json) {
    nlohmann::json out = {{"model", o.load.model.empty() ? o.load.dummy_weights : o.load.model},
                          {"scheme", info.scheme},
                          {"kv", info.kv},
                          {"backend", info.backend},
                          {"threads", info.threads},
                          {"weight_bytes", info.weight_bytes},
                          {"prompt_tokens", o.prompt},
                          {"output_tokens", o.output},
                          {"prefill_tokens_per_second", median(prefill)},
                          {"prefill_runs", prefill}};
    if (!decode.empty()) out["decode_tokens_per_second"] = median(decode), out["decode_runs"] = decode;
    fmt::print("{}\n", out.dump());
    return 0;
  }
  std::vector<std::vector<std::string>> rows = {{"test", "tokens/s", "min", "max"}};
  auto add = [&](const std::string& name, const std::vector<double>& v) {
    rows.push_back({name, fmt::format("{:.1f}", median(v)),
                    fmt::format("{:.1f}", *std::min_element(v.begin(), v.end())),
                    fmt::format("{:.1f}", *std::max_element(v.begin(), v.end()))});
  };
  add(fmt::format("prefill {}", o.prompt), prefill);
  if (!decode.empty()) add(fmt::format("decode {} at {}", o.output, o.prompt), decode);
  fmt::print("{} {} on {}, {} threads, weights {}\n\n{}", info.scheme, info.kv, info.backend, info.threads,
             human_bytes(static_cast<double>(info.weight_bytes)), format_table(rows));
  return 0;
}

}  // namespace

void add_bench(CLI::App& app, Run& run) {
  auto o = std::make_shared<LatencyOptions>();
  CLI::App* bench = app.add_subcommand("bench", "Measure speed");
  bench->require_subcommand(1);
  CLI::App* c = bench->add_subcommand("latency", "Prefill and decode tokens/s of one sequence");
  add_model_options(*c, o->load);
  c->add_option("-p,--prompt-tokens", o->prompt, "Tokens to prefill")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c->add_option("-n,--output-tokens", o->output, "Tokens to decode after it")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  c->add_option("-r,--repeat", o->repeat, "Runs; the median is reported")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  add_load_options(*c, o->load);
  c->add_flag("--json", o->as_json, "One JSON object");
  c->add_flag("-q,--quiet", o->quiet, "No progress");
  c->footer(
      "Examples:\n  comet bench latency out/gutenberg-15m-w4ax\n  comet bench latency --dummy-weights "
      "TinyLlama-1.1B/config.json -p 512 -n 128 --threads 2");
  c->callback([o, &run] {
    require_model(o->load);
    run = [o] { return bench_latency(*o); };
  });
  add_bench_serve(*bench, run);
  add_bench_gemm(*bench, run);
}

}  // namespace comet::app
