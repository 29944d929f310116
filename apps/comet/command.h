// SPDX-License-Identifier: Apache-2.0
// What the subcommands share: how they register, options of loading, reading input.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <stdexcept>
#include <string>

#include "comet/comet.h"

namespace comet::app {

// The command line asked for something that cannot be.
class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Each adds its subcommand; the callback sets `run`, which main() calls after parsing. Exit codes: 0, 1 failed, 2 wrong
// use.
using Run = std::function<int()>;

void add_complete(CLI::App& app, Run& run);
void add_chat(CLI::App& app, Run& run);
void add_eval(CLI::App& app, Run& run);
void add_quantize(CLI::App& app, Run& run);
void add_inspect(CLI::App& app, Run& run);
void add_bench(CLI::App& app, Run& run);
void add_bench_serve(CLI::App& bench, Run& run);
void add_bench_gemm(CLI::App& bench, Run& run);
// Options of bench gemm on a command, which may be a whole program.
void configure_bench_gemm(CLI::App& command, Run& run);
void add_serve(CLI::App& app, Run& run);

// --threads, --isa, --kv-bits, --max-model-len, --kv-memory ... of every command that loads a model.
void add_load_options(CLI::App& app, api::LoadOptions& options);

// The model; --dummy-weights instead of it, and --act-bits.
void add_model_options(CLI::App& app, api::LoadOptions& options);
// Throws CLI::ParseError unless one of the two was given. From callbacks.
void require_model(const api::LoadOptions& options);

struct SamplingOptions {
  api::Sampling sampling;
  int max_tokens = 0;  // 0: to the end of the context
  uint64_t seed = 0;
};
// --temp, --top-k, ... with the defaults of `options`.
void add_sampling_options(CLI::App& app, SamplingOptions& options);
api::Sampling resolve(const CLI::App& app, const SamplingOptions& options);

// Says what memory loading will take, and warns when there is less.
void check_memory(const api::LoadOptions& options, bool quiet);
// check_memory(), then loads with a progress bar.
std::unique_ptr<api::LanguageModel> load_model(const api::LoadOptions& options, bool quiet);

// A whole file; "-" is standard input. Throws std::runtime_error with the reason.
std::string read_text(const std::string& file);

}  // namespace comet::app
