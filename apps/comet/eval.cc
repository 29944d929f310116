// SPDX-License-Identifier: Apache-2.0
// comet eval ppl: perplexity of a model on a text.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "command.h"
#include "console.h"

namespace comet::app {
namespace {

struct EvalOptions {
  api::LoadOptions load;
  api::PerplexityOptions ppl;
  std::string file, chars;
  bool as_json = false, quiet = false;
};

void parse_chars(const std::string& chars, api::PerplexityOptions& ppl) {
  if (chars.empty()) return;
  const size_t colon = chars.find(':');
  try {
    if (colon == std::string::npos) throw std::invalid_argument("");
    ppl.first_char = std::stoll(chars.substr(0, colon));
    ppl.last_char = std::stoll(chars.substr(colon + 1));
  } catch (const std::exception&) {
    throw UserError(fmt::format("--chars {}: expected FIRST:LAST", chars));
  }
  if (ppl.first_char < 0 || ppl.last_char <= ppl.first_char)
    throw UserError(fmt::format("--chars {}: expected FIRST < LAST", chars));
}

int eval_ppl(EvalOptions& o) {
  parse_chars(o.chars, o.ppl);
  o.ppl.text = read_text(o.file);
  const std::unique_ptr<api::LanguageModel> model = load_model(o.load, o.quiet || o.as_json);
  ProgressBar bar("perplexity", o.quiet);
  const api::PerplexityResult r = model->perplexity(
      o.ppl, [&](int done, int total, double ppl) { bar.update(done, total, fmt::format("ppl {:.3f}", ppl)); });
  const double tokens = static_cast<double>(r.windows) * r.context;
  if (o.as_json)
    fmt::print("{}\n", nlohmann::json{{"model", o.load.model},
                                      {"scheme", model->info().scheme},
                                      {"kv", model->info().kv},
                                      {"backend", model->info().backend},
                                      {"perplexity", r.perplexity},
                                      {"mean_nll", r.mean_nll},
                                      {"windows", r.windows},
                                      {"context", r.context},
                                      {"seconds", r.seconds},
                                      {"tokens_per_second", tokens / r.seconds}}
                           .dump());
  else
    fmt::print("perplexity {:.4f} ({} windows of {} tokens, {} {}, {:.0f} tokens/s)\n", r.perplexity, r.windows,
               r.context, model->info().scheme, model->info().kv, tokens / r.seconds);
  return 0;
}

}  // namespace

void add_eval(CLI::App& app, Run& run) {
  auto o = std::make_shared<EvalOptions>();
  o->load.max_batch_seqs = 1;
  CLI::App* eval = app.add_subcommand("eval", "Measure a model's quality");
  eval->require_subcommand(1);
  CLI::App* c = eval->add_subcommand("ppl", "Perplexity on a text: windows without BOS that share nothing");
  c->add_option("model", o->load.model, "Model folder, or a name in the Hugging Face cache")->required();
  c->add_option("--text", o->file, "UTF-8 text file")->required();
  c->add_option("--chars", o->chars, "FIRST:LAST, use these characters only");
  c->add_option("--context", o->ppl.context, "Tokens in a window")->check(CLI::PositiveNumber)->capture_default_str();
  c->add_option("--windows", o->ppl.windows, "At most this many windows (default: all)")->check(CLI::PositiveNumber);
  add_load_options(*c, o->load);
  c->add_flag("--json", o->as_json, "The last line of standard output is one JSON object");
  c->add_flag("-q,--quiet", o->quiet, "No progress");
  c->footer("Example:\n  comet eval ppl models/gutenberg-15m --text models/gutenberg-15m/eval.txt --windows 16");
  c->callback([o, &run] { run = [o] { return eval_ppl(*o); }; });
}

}  // namespace comet::app
