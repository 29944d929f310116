// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm/run.h"

#include <fmt/ranges.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>

#include "base/check.h"
#include "bench/gemm/draw.h"
#include "bench/gemm/tables.h"

namespace comet::gemm_bench {
namespace {

constexpr int kMostTokens = 65536;

volatile sig_atomic_t g_interrupted = 0;

// The first SIGINT or SIGTERM is noted, the next one ends the program as ever.
class InterruptGuard {
 public:
  InterruptGuard() {
    g_interrupted = 0;
    struct sigaction action = {};
    action.sa_handler = [](int) { g_interrupted = 1; };
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
    sigaction(SIGINT, &action, &before_int_);
    sigaction(SIGTERM, &action, &before_term_);
  }
  ~InterruptGuard() {
    sigaction(SIGINT, &before_int_, nullptr);
    sigaction(SIGTERM, &before_term_, nullptr);
  }

 private:
  struct sigaction before_int_, before_term_;
};

void check_options(const api::BenchGemmOptions& o) {
  const auto check = [](const char* option, const std::vector<int>& values, int least, int most) {
    if (values.empty()) throw_invalid("{}: no number is given", option);
    for (const int v : values)
      if (v < least || v > most) throw_invalid("{} {}: expected {} to {}", option, v, least, most);
  };
  check("--m", o.tokens, 1, kMostTokens);
  check("--share4", o.shares4, 0, 100);
  check("--rounds", {o.rounds}, 1, 1000);
  check("--repeat-checks", {o.repeat_checks}, 1, 1000000);
  if (!(o.replay_us >= 1 && o.replay_us <= 1e6)) throw_invalid("--replay-us {}: expected 1 to 1e6", o.replay_us);
  if (o.resume && o.json.empty()) throw_invalid("--resume goes with --json FILE, which holds what is done");
  if (o.quantize && (o.resume || !o.plot.empty())) throw_invalid("--quantize has neither --resume nor --plot");
  if (o.lm_head && (o.quantize || o.resume || !o.plot.empty() || !o.from.empty()))
    throw_invalid("--lm-head has neither --quantize nor --resume, --plot or --from");
  if (o.ablation && (o.quantize || o.lm_head || o.sweep || o.resume || !o.plot.empty() || !o.from.empty()))
    throw_invalid("--ablation has neither --quantize nor --lm-head, --sweep, --resume, --plot or --from");
  for (const std::string& file : {o.json, o.plot}) {
    if (file.empty()) continue;
    const std::filesystem::path folder = std::filesystem::absolute(file).parent_path();
    if (!std::filesystem::is_directory(folder))
      throw_invalid("cannot write {}: there is no folder {}", file, folder.string());
  }
}

nlohmann::json settings_of(const api::BenchGemmOptions& o) {
  return {{"rounds", o.rounds}, {"replay_us", o.replay_us}, {"baselines", o.baselines}, {"bf16", o.bf16},
          {"fused", o.fused},   {"check", o.check},         {"sweep", o.sweep}};
}

api::BenchGemmResult finish(const Results& results, const api::BenchGemmOptions& options) {
  if (!options.plot.empty()) write_whole(options.plot, draw(results));
  return {.tables = format_tables(results), .num_wrong = results.num_wrong()};
}

Results begin(const api::BenchGemmOptions& options, const Machine& machine) {
  Results now{.machine = machine, .settings = settings_of(options)};
  if (options.resume && std::filesystem::exists(options.json)) {
    Results old = read_results(options.json);
    check_resumable(old, now, options.json);
    now = std::move(old);
  }
  const std::string command = command_of(options);
  if (std::find(now.commands.begin(), now.commands.end(), command) == now.commands.end())
    now.commands.push_back(command);
  return now;
}

}  // namespace

std::string command_of(const api::BenchGemmOptions& o) {
  const api::BenchGemmOptions usual;
  std::string out = "comet bench gemm";
  const auto add = [&](bool is_given, const std::string& text) {
    if (is_given) out += " " + text;
  };
  add(o.shapes != usual.shapes, fmt::format("--shapes {}", fmt::join(o.shapes, ",")));
  add(o.tokens != usual.tokens, fmt::format("--m {}", fmt::join(o.tokens, ",")));
  add(o.shares4 != usual.shares4, fmt::format("--share4 {}", fmt::join(o.shares4, ",")));
  add(!o.baselines, "--no-baselines");
  add(o.bf16, "--bf16");
  add(!o.fused, "--no-fused");
  add(!o.check, "--no-check");
  add(o.sweep, "--sweep");
  add(o.rounds != usual.rounds, fmt::format("--rounds {}", o.rounds));
  add(o.replay_us != usual.replay_us, fmt::format("--replay-us {:g}", o.replay_us));
  add(o.quantize, "--quantize");
  add(o.lm_head, "--lm-head");
  add(o.ablation, "--ablation");
  add(o.repeat_checks != usual.repeat_checks, fmt::format("--repeat-checks {}", o.repeat_checks));
  return out;
}

api::BenchGemmResult run(const api::BenchGemmOptions& options, const Report& report, const MakeMeter& make_meter) {
  check_options(options);
  if (options.quantize) {
    measure_quantize(options, report);
    return {};
  }
  if (options.lm_head) return measure_lm_head(options, report);
  if (options.ablation) return measure_ablation(options, report);
  if (!options.from.empty()) {
    Results results;
    for (const std::string& file : options.from) merge(results, read_results(file), file);
    return finish(results, options);
  }
  const std::vector<Shape> shapes = resolve_shapes(options.shapes);
  const std::unique_ptr<Meter> meter = make_meter(options);
  Results results = begin(options, meter->machine());
  const InterruptGuard guard;
  size_t num_old = 0;
  for (const Shape& shape : shapes)
    for (const int share4 : options.shares4)
      for (const int m : options.tokens) {
        const Point wanted{.shape = shape.name, .m = m, .n = shape.n, .k = shape.k, .share4 = share4};
        if (g_interrupted != 0) continue;
        if (results.find(wanted) != nullptr) {
          ++num_old;
          continue;
        }
        results.points.push_back(meter->measure(shape, m, share4));
        report(point_line(results, results.points.back()));
        if (!options.json.empty()) write_whole(options.json, to_text(results));
      }
  if (options.resume) report(fmt::format("{} points were in {} already", num_old, options.json));
  api::BenchGemmResult result = finish(results, options);
  result.is_interrupted = g_interrupted != 0;
  return result;
}

}  // namespace comet::gemm_bench
