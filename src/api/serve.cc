// SPDX-License-Identifier: Apache-2.0
#include "comet/serve.h"

#ifndef COMET_HAS_SERVER

#include "base/check.h"

void comet::api::serve(const LoadOptions&, const ServeOptions&, const std::function<void(const std::string&)>&,
                       const std::function<void(const ModelInfo&)>&, const LayerProgress&) {
  throw_unsupported("this program was built without its server: that takes g++ 12 or clang 15");
}

#else

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "api/runtime.h"
#include "model/json_fields.h"
#include "server/http_server.h"

namespace comet::api {
namespace {

// What generation_config.json says of sampling.
server::SamplingDefaults read_defaults(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "generation_config.json";
  if (folder.empty() || !std::filesystem::exists(file)) return {};
  const nlohmann::json json = read_json(file);
  const JsonFields f(json, file.string());
  server::SamplingDefaults d;
  if (f.has("do_sample") && !f.boolean("do_sample", true)) d.temperature = 0.0;
  if (f.has("temperature") && !d.temperature) d.temperature = f.number("temperature", 0, 100);
  if (f.has("top_p")) d.top_p = f.number("top_p", 0, 1);
  if (f.has("min_p")) d.min_p = f.number("min_p", 0, 1);
  if (f.has("top_k")) d.top_k = f.integer("top_k", -1, INT32_MAX);
  if (f.has("repetition_penalty")) d.repetition_penalty = f.number("repetition_penalty", 0, 100);
  if (f.has("max_new_tokens")) d.max_tokens = f.integer("max_new_tokens", 1, INT32_MAX);
  return d;
}

std::string default_name(const LoadOptions& load, const std::filesystem::path& folder) {
  if (!load.model.empty() && !std::filesystem::exists(load.model)) return load.model;  // of the Hugging Face cache
  const std::filesystem::path path = folder.empty() ? std::filesystem::path(load.dummy_weights) : folder;
  const std::string name = std::filesystem::absolute(path).lexically_normal().filename().string();
  return name.empty() ? "model" : name;
}

}  // namespace

void serve(const LoadOptions& load, const ServeOptions& options,
           const std::function<void(const std::string&)>& on_listening,
           const std::function<void(const ModelInfo&)>& on_ready, const LayerProgress& progress) {
  std::optional<Runtime> runtime;  // outlives the server
  server::HttpServer http(options, COMET_VERSION);
  on_listening(http.url());
  http.serve([&](const std::atomic<bool>& is_stopping) -> server::ServedModel {
    Runtime& r = runtime.emplace(load, [&](int done, int total) {
      if (is_stopping) throw Error("loading was stopped");
      if (progress) progress(done, total);
    });
    on_ready(r.info());
    return {.engine = r.engine.get(),
            .tokenizer = &r.tokenizer,
            .chat_template = r.chat_template.get(),
            .vocab_size = r.model.config().vocab_size,
            .max_sequences = engine_options(load).max_batch_seqs,
            .names = options.model_names.empty() ? std::vector{default_name(load, r.checkpoint.folder())}
                                                 : options.model_names,
            .defaults = read_defaults(r.checkpoint.folder())};
  });
}

}  // namespace comet::api

#endif
