// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <nlohmann/json.hpp>

#include "api/composition.h"
#include "base/check.h"
#include "quantizer/quantize_model.h"
#include "text/tokenizer.h"

namespace comet::api {
namespace {

std::vector<std::vector<int32_t>> calibration_windows(const QuantizeOptions& o, const std::string& folder,
                                                      int windows) {
  if (o.calibration_text.empty()) throw_invalid("recipe \"{}\" needs a calibration text (--calib FILE)", o.recipe);
  const std::vector<int32_t> ids = Tokenizer::load(folder).encode(o.calibration_text, false);
  const size_t length = static_cast<size_t>(o.calibration_context);
  std::vector<std::vector<int32_t>> out;
  for (size_t at = 0; at + length <= ids.size() && out.size() < static_cast<size_t>(windows); at += length)
    out.emplace_back(ids.begin() + static_cast<int64_t>(at), ids.begin() + static_cast<int64_t>(at + length));
  if (out.empty()) throw_invalid("the calibration text has {} tokens, one window needs {}", ids.size(), length);
  return out;
}

QuantizeReport make_report(const QuantizeSummary& summary, const Recipe& recipe, double seconds) {
  QuantizeReport report{.sites = {},
                        .int4_mac_share = summary.int4_mac_share,
                        .input_bytes = summary.input_bytes,
                        .output_bytes = summary.output_bytes,
                        .seconds = seconds,
                        .recipe_json = to_json(recipe).dump()};
  for (const SiteSummary& s : summary.sites)
    report.sites.push_back({.layer = s.layer,
                            .site = to_string(s.site),
                            .num_int8_groups = s.format.num_int8_groups,
                            .num_groups = s.format.num_groups(),
                            .bits2 = s.format.bits2,
                            .clip1 = s.format.clip1,
                            .clip2 = s.format.clip2,
                            .output_error = s.output_error});
  return report;
}

}  // namespace

QuantizeReport quantize(const QuantizeOptions& o, const LayerProgress& progress) {
  const auto start = std::chrono::steady_clock::now();
  QuantizeJob job{.input = resolve_model(o.model),
                  .output = o.output,
                  .recipe = load_recipe(o.recipe, o.overrides),
                  .windows = {},
                  .progress = progress};
  if (o.calibration_windows > 0) job.recipe.calibration_windows = o.calibration_windows;
  if (o.dry_run) return make_report(plan_quantization(job), job.recipe, 0.0);
  if (job.recipe.needs_calibration())
    job.windows = calibration_windows(o, job.input.string(), job.recipe.calibration_windows);
  const auto pool = std::make_shared<ThreadPool>(o.threads);
  const std::unique_ptr<Backend> backend = make_backend("cpu", o.isa, pool);
  const QuantizeSummary summary = quantize_model(job, *backend, *pool);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return make_report(summary, job.recipe, seconds);
}

}  // namespace comet::api
