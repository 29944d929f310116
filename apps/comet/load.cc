// SPDX-License-Identifier: Apache-2.0
// Options and steps that every command with a model shares.
#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

#include "command.h"
#include "console.h"

namespace comet::app {

void add_load_options(CLI::App& app, api::LoadOptions& o) {
  app.add_option("--threads", o.threads, "Threads (default: what the process may use)")->check(CLI::Range(0, 1024));
  app.add_option("--isa", o.isa, "Force an instruction set: avx2, avx512vnni (also COMET_ISA)");
  app.add_option("--backend", o.backend, "cpu, or ref (the slow scalar reference)")
      ->check(CLI::IsMember({"cpu", "ref"}));
  app.add_option("--kv-bits", o.kv_bits, "Bits of the KV cache: 4, 8, 16 (default: the checkpoint's)")
      ->check(CLI::IsMember({4, 8, 16}));
  app.add_option("--max-model-len", o.max_model_len, "Longest prompt + output in tokens (default: the model's)")
      ->check(CLI::PositiveNumber);
  app.add_option("--kv-memory", o.kv_memory,
                 "Memory of the KV cache, e.g. 512MB (default: what the batch needs, up to 1 GiB)")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--max-batch-tokens", o.max_batch_tokens, "Token budget of a step")->check(CLI::Range(1, 65536));
  app.add_option("--max-batch-seqs", o.max_batch_seqs, "Sequences that run at once")->check(CLI::Range(1, 4096));
  app.add_option("--max-chunk", o.max_chunk, "Longest prefill chunk (default: the token budget)")
      ->check(CLI::NonNegativeNumber);
  app.add_flag("!--no-prefix-cache", o.prefix_cache, "Compute every prompt from its beginning");
}

void add_sampling_options(CLI::App& app, SamplingOptions& o) {
  api::Sampling& s = o.sampling;
  app.add_option("-n,--max-tokens", o.max_tokens, "Most tokens to generate (default: up to the context's end)")
      ->check(CLI::PositiveNumber);
  app.add_option("--temp,--temperature", s.temperature, "0 takes the likeliest token");
  app.add_option("--top-k", s.top_k, "Choose among the k likeliest tokens; 0: all");
  app.add_option("--top-p", s.top_p, "Choose among the likeliest tokens that have this much probability");
  app.add_option("--min-p", s.min_p, "Leave out tokens below this share of the likeliest one's probability");
  app.add_option("--repetition-penalty", s.repetition_penalty, "Above 1 discourages tokens that occurred");
  app.add_option("--presence-penalty", s.presence_penalty, "-2..2, on tokens of the output");
  app.add_option("--frequency-penalty", s.frequency_penalty, "-2..2, for each occurrence in the output");
  app.add_option("--seed", o.seed, "Makes sampling repeatable");
  app.add_option("--stop", s.stop, "End before this text; may be given several times")->allow_extra_args(false);
  app.add_flag("--ignore-eos", s.ignore_eos, "Go on after the end-of-text token");
}

api::Sampling resolve(const CLI::App& app, const SamplingOptions& o) {
  api::Sampling s = o.sampling;
  if (o.max_tokens > 0) s.max_tokens = o.max_tokens;
  if (app.get_option("--seed")->count() > 0) s.seed = o.seed;
  return s;
}

void add_model_options(CLI::App& app, api::LoadOptions& o) {
  CLI::Option* model = app.add_option("model", o.model, "Model folder, or a name in the Hugging Face cache");
  app.add_option("--dummy-weights", o.dummy_weights,
                 "config.json of any model: run its shape with random packed weights")
      ->excludes(model);
  app.add_option("--act-bits", o.dummy_act_bits, "With --dummy-weights: 8 = W4A8, 4 = W4A4, 16 = bf16")
      ->check(CLI::IsMember({4, 8, 16}))
      ->capture_default_str();
}

void require_model(const api::LoadOptions& o) {
  if (o.model.empty() && o.dummy_weights.empty()) throw CLI::RequiredError("model");
}

void check_memory(const api::LoadOptions& options, bool quiet) {
  const api::MemoryEstimate e = api::estimate_memory(options);
  const size_t needed = e.weights + e.kv + e.workspace;
  if (!quiet)
    fmt::print(stderr, "memory: {} weights, {} KV cache, {} workspace\n", human_bytes(static_cast<double>(e.weights)),
               human_bytes(static_cast<double>(e.kv)), human_bytes(static_cast<double>(e.workspace)));
  if (e.available > 0 && needed > e.available)
    fmt::print(
        stderr,
        "warning: that is more than the {} of memory that are free; --max-model-len and --kv-memory make it smaller\n",
        human_bytes(static_cast<double>(e.available)));
}

std::unique_ptr<api::LanguageModel> load_model(const api::LoadOptions& options, bool quiet) {
  check_memory(options, quiet);
  ProgressBar bar("loading", quiet);
  return api::LanguageModel::load(options, [&](int done, int total) { bar.update(done, total); });
}

std::string read_text(const std::string& file) {
  if (file == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::ifstream in(file, std::ios::binary);
  if (!in) throw UserError(fmt::format("cannot open {}: {}", file, std::strerror(errno)));
  std::ostringstream text;
  text << in.rdbuf();
  if (in.bad()) throw UserError(fmt::format("cannot read {}", file));
  return text.str();
}

}  // namespace comet::app
