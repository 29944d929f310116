// SPDX-License-Identifier: Apache-2.0
// comet quantize: a Hugging Face model in, a W4AxKV4 model out.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "command.h"
#include "console.h"

namespace comet::app {
namespace {

struct Options {
  api::QuantizeOptions q;
  std::string calibration_file;
  std::vector<std::string> sets;
  std::string target;
  bool as_json = false, quiet = false;
};

void parse_sets(Options& o) {
  if (o.target == "sm90" || o.target == "cpu")
    o.q.overrides.emplace("act_bits", "8");  // 4-bit groups cost what 8-bit ones cost there
  if (o.target == "sm80") o.q.overrides.emplace("act_bits", "4");
  for (const std::string& s : o.sets) {
    const size_t equals = s.find('=');
    if (equals == std::string::npos || equals == 0) throw UserError(fmt::format("--set {}: expected KEY=VALUE", s));
    o.q.overrides[s.substr(0, equals)] = s.substr(equals + 1);
  }
}

void print_report(const api::QuantizeReport& r, const Options& o) {
  std::vector<std::vector<std::string>> rows = {{"layer.site", "8-bit groups", "region 2", "clip", "output error"}};
  for (const api::SiteReport& s : r.sites)
    rows.push_back({fmt::format("{}.{}", s.layer, s.site), fmt::format("{} of {}", s.num_int8_groups, s.num_groups),
                    fmt::format("A{}", s.bits2), fmt::format("{:.3f} / {:.3f}", s.clip1, s.clip2),
                    s.output_error > 0 ? fmt::format("{:.2f}%", 100 * s.output_error) : "-"});
  fmt::print("{}\n{}: {} -> {} in {:.1f} s; {:.1f}% of the layers' multiply-accumulates at 4-bit activations\n",
             format_table(rows), o.q.output, human_bytes(static_cast<double>(r.input_bytes)),
             human_bytes(static_cast<double>(r.output_bytes)), r.seconds, 100 * r.int4_mac_share);
}

void print_json(const api::QuantizeReport& r, const Options& o) {
  nlohmann::json sites = nlohmann::json::array();
  for (const api::SiteReport& s : r.sites)
    sites.push_back({{"layer", s.layer},
                     {"site", s.site},
                     {"n8", s.num_int8_groups},
                     {"groups", s.num_groups},
                     {"bits2", s.bits2},
                     {"clip1", s.clip1},
                     {"clip2", s.clip2},
                     {"output_error", s.output_error}});
  fmt::print("{}\n", nlohmann::json{{"output", o.q.output},
                                    {"input_bytes", r.input_bytes},
                                    {"output_bytes", r.output_bytes},
                                    {"seconds", r.seconds},
                                    {"int4_mac_share", r.int4_mac_share},
                                    {"recipe", nlohmann::json::parse(r.recipe_json)},
                                    {"sites", sites}}
                         .dump());
}

int run_quantize(Options& o) {
  parse_sets(o);
  if (!o.calibration_file.empty()) o.q.calibration_text = read_text(o.calibration_file);
  ProgressBar bar("quantizing layers", o.quiet || o.as_json);
  const api::QuantizeReport report = api::quantize(o.q, [&](int done, int total) { bar.update(done, total); });
  if (o.as_json)
    print_json(report, o);
  else if (!o.quiet)
    print_report(report, o);
  return 0;
}

}  // namespace

void add_quantize(CLI::App& app, Run& run) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand(
      "quantize", "Quantize a Hugging Face model to 4-bit weights, 4/8-bit activations and a 4-bit KV cache");
  c->add_option("model", o->q.model, "Model folder, or a name in the Hugging Face cache")->required();
  c->add_option("-o,--output", o->q.output, "Folder to make; it appears when it is complete")->required();
  c->add_option("--recipe", o->q.recipe, "fmpq (calibrated), rtn (round to nearest), or a JSON file")
      ->capture_default_str();
  c->add_option("--calib", o->calibration_file, "UTF-8 text for calibration (fmpq needs it)");
  c->add_option("--calib-windows", o->q.calibration_windows,
                "Windows of 1024 tokens to take from it (default: the recipe's)")
      ->check(CLI::PositiveNumber);
  c->add_option("--calib-context", o->q.calibration_context, "Tokens in a calibration window")
      ->check(CLI::Range(8, 65536))
      ->capture_default_str();
  c->add_option("--target", o->target, "cpu, sm90: 8-bit activations cost nothing there (W4A8); sm80: W4Ax")
      ->check(CLI::IsMember({"cpu", "sm80", "sm90"}));
  c->add_option("--set", o->sets, "KEY=VALUE over the recipe, e.g. --set act_bits=8; may be given several times")
      ->allow_extra_args(false);
  c->add_option("--isa", o->q.isa, "Force an instruction set: avx2, avx512vnni (also COMET_ISA)");
  c->add_option("--threads", o->q.threads, "Threads (default: what the process may use)")->check(CLI::Range(0, 1024));
  c->add_flag("--dry-run", o->q.dry_run, "Check model and recipe and print what would come out; write nothing");
  c->add_flag("--json", o->as_json, "One JSON object instead of the table");
  c->add_flag("-q,--quiet", o->quiet, "No progress, no table");
  c->footer(
      "Examples:\n  comet quantize models/gutenberg-15m -o out/w4ax --calib models/gutenberg-15m/calib.txt\n"
      "  comet quantize MODEL -o OUT --recipe rtn --set act_bits=8");
  c->callback([o, &run] { run = [o] { return run_quantize(*o); }; });
}

}  // namespace comet::app
