// SPDX-License-Identifier: Apache-2.0
#include "api/composition.h"

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/mapped_file.h"

namespace comet::api {

bool is_user_error(const std::exception& error) { return dynamic_cast<const InvalidInput*>(&error) != nullptr; }

std::unique_ptr<Backend> make_backend(const std::string& backend, const std::string& isa,
                                      const std::shared_ptr<ThreadPool>& pool) {
  if (backend == "ref") return ref_backend();
  if (backend != "cpu") throw_unsupported("backend \"{}\" is not supported (cpu, ref)", backend);
  const char* forced = std::getenv("COMET_ISA");
  const std::string choice = !isa.empty() ? isa : (forced != nullptr ? forced : "");
  if (choice == "ref") return ref_backend();
  return cpu_backend(choice, pool);
}

namespace {

ModelConfig dummy_config(const LoadOptions& options) {
  const std::filesystem::path path = options.dummy_weights;
  const std::filesystem::path file = std::filesystem::is_directory(path) ? path / "config.json" : path;
  const nlohmann::json json = nlohmann::json::parse(read_file(file), nullptr, false);
  if (json.is_discarded()) throw_invalid("{}: not valid JSON", file.string());
  ModelConfig config = parse_model_config(json, file.string());
  config.eos_ids.clear();
  if (config.quantization || options.dummy_act_bits == 16) return config;
  if (options.dummy_act_bits != 4 && options.dummy_act_bits != 8)
    throw_invalid("dummy activations of {} bits are not supported (4, 8, 16)", options.dummy_act_bits);
  QuantizationConfig q;
  const bool can_rotate = (config.head_dim & (config.head_dim - 1)) == 0;
  q.kv = {.bits = 4, .k_rotate = can_rotate, .v_rotate = can_rotate, .smooth = false};
  for (int layer = 0; layer < config.num_layers; ++layer)
    for (const Site site : kSites) {
      const int channels = config.site_channels(site);
      q.sites[site_name(layer, site)] = {.k_in = channels,
                                         .k = padded_channels(channels),
                                         .num_int8_groups = 0,
                                         .bits2 = options.dummy_act_bits,
                                         .rotate = true};
    }
  config.quantization = q;
  return config;
}

}  // namespace

Checkpoint open_checkpoint(const LoadOptions& options) {
  if (!options.dummy_weights.empty()) return Checkpoint::dummy(dummy_config(options), 1);
  return Checkpoint::open(resolve_model(options.model));
}

std::string scheme_name(const Checkpoint& checkpoint) {
  const ModelConfig& config = checkpoint.config();
  if (!config.quantization) {
    if (checkpoint.folder().empty()) return "bf16";
    return to_string(checkpoint.tensors().at("model.embed_tokens.weight").dtype);
  }
  bool has4 = false, has8 = false;
  for (const auto& [name, site] : config.quantization->sites) {
    has4 = has4 || (site.bits2 == 4 && site.num_int8_groups < site.num_groups());
    has8 = has8 || site.bits2 == 8 || site.num_int8_groups > 0;
  }
  return has4 ? (has8 ? "W4Ax" : "W4A4") : "W4A8";
}

}  // namespace comet::api
