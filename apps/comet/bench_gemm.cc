// SPDX-License-Identifier: Apache-2.0
// comet bench gemm, and the options of the small program comet-bench-gemm.
#include "comet/bench_gemm.h"

#include <fmt/format.h>

#include <cstdio>

#include "command.h"

namespace comet::app {
namespace {

int run_bench_gemm(const api::BenchGemmOptions& o) {
  const api::BenchGemmResult result = api::bench_gemm(o, [](const std::string& line) {
    fmt::print("{}\n", line);
    std::fflush(stdout);
  });
  if (!result.tables.empty()) fmt::print("\n{}", result.tables);
  if (result.is_interrupted)
    fmt::print(stderr, "interrupted; this is what was done until then{}\n",
               o.json.empty() ? "" : ", --resume goes on from here");
  return result.is_interrupted || result.num_wrong > 0 ? 1 : 0;
}

}  // namespace

void configure_bench_gemm(CLI::App& c, Run& run) {
  auto o = std::make_shared<api::BenchGemmOptions>();
  c.add_option("--shapes", o->shapes, "Families (llama3, paper, 8B, L2-7B ..), layers (8B.qkv), or NxK (6144x4096)")
      ->delimiter(',')
      ->capture_default_str();
  c.add_option("--m", o->tokens, "Numbers of tokens (default: 1,2,4 .. 4096)")->delimiter(',');
  c.add_option("--share4", o->shares4, "Percents of 4-bit groups of activations (default: 0,75,100)")->delimiter(',');
  c.add_flag("!--no-baselines", o->baselines, "Ours only: no cuBLAS, no RMSNorm");
  c.add_flag("!--no-fused", o->fused, "Without RMSNorm + quantize_act + gemm beside RMSNorm + cuBLAS fp16");
  c.add_flag("--bf16", o->bf16, "cuBLAS bf16, too (as fast as fp16)");
  c.add_option("--cublas", o->cublas_folder, "Folder of libcublas.so.13 (default: the loader finds it)");
  c.add_option("--rounds", o->rounds, "Replays of each graph; the median counts")->capture_default_str();
  c.add_option("--replay-us", o->replay_us, "Microseconds of a replay")->capture_default_str();
  c.add_option("--json", o->json, "Write the figures here, after every point");
  auto* resume = c.add_flag("--resume", o->resume, "Leave out the points that the file of --json has");
  c.add_option("--plot", o->plot, "Write an SVG: speed-up by M");
  c.add_option("--from", o->from, "Measure nothing: tables and plot of such files, made on any machine")
      ->excludes(resume)
      ->check(CLI::ExistingFile);
  c.add_flag("!--no-check", o->check, "Skip the comparison with the formula");
  c.add_option("--repeat-checks", o->repeat_checks, "Comparisons with the formula for each plan")
      ->capture_default_str();
  c.add_flag("--sweep", o->sweep, "Time every plan, too");
  c.add_flag("--quantize", o->quantize, "quantize_act alone instead, beside a copy of as many bytes");
  c.add_flag("--lm-head", o->lm_head, "The W8A8 GEMM on lm_head's shapes instead, beside cuBLAS fp16");
  c.add_flag("--ablation", o->ablation,
             "The GEMM with one thing taken out at a time instead (comet-bench-gemm of a build with CUDA only)");
  c.callback([o, &run] { run = [o] { return run_bench_gemm(*o); }; });
}

void add_bench_gemm(CLI::App& bench, Run& run) {
  CLI::App* c = bench.add_subcommand("gemm", "The integer GEMM of a Hopper GPU beside cuBLAS");
  configure_bench_gemm(*c, run);
  c->footer(
      "Examples:\n"
      "  comet bench gemm --json gemm.json --plot gemm.svg\n"
      "  timeout 590 comet bench gemm --shapes paper --json paper.json --resume\n"
      "  comet bench gemm --shapes 8B.qkv,6144x4096 --m 16,64 --share4 75 --bf16\n"
      "  comet bench gemm --from gemm.json --plot gemm.svg");
}

}  // namespace comet::app
