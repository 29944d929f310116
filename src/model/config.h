// SPDX-License-Identifier: Apache-2.0
// A model's config.json, in the spellings of transformers 4 and 5, and Comet's own quantization_config.
#pragma once

#include <array>
#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "quant/activations.h"
#include "quant/rope.h"

namespace comet {

// The inputs of a decoder layer's linears, in order of execution.
enum class Site : uint8_t { attn_in, o_in, mlp_in, down_in };
inline constexpr std::array<Site, 4> kSites = {Site::attn_in, Site::o_in, Site::mlp_in, Site::down_in};
const char* to_string(Site site);

// "model.layers.3.mlp_in"
std::string site_name(int layer, Site site);

struct KvFormat {
  int bits = 16;          // 4, 8 or 16
  bool k_rotate = false;  // Hadamard over head_dim on K and q at run time
  bool v_rotate = false;  // folded into the weights
  bool smooth = false;    // folded into the weights
};

constexpr int kFormatVersion = 1;

struct QuantizationConfig {
  int format_version = kFormatVersion;
  KvFormat kv;
  std::map<std::string, ActFormat> sites;  // by site_name(); k and k_in are filled in
  std::string recipe_json;                 // as it was resolved
  std::string calibration;                 // fingerprint, "" for none
  std::string quantizer_version;
};

struct ModelConfig {
  std::string architecture;
  int hidden_size = 0, intermediate_size = 0, num_layers = 0;
  int num_heads = 0, num_kv_heads = 0, head_dim = 0;
  int vocab_size = 0, max_positions = 0;
  std::vector<int> windows;  // of each layer: keys that a query sees, its own the last, 0: all; empty: 0 everywhere
  float rms_norm_eps = 1e-5f;
  bool tie_embeddings = false;
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool qk_norm = false;
  RopeConfig rope;
  std::vector<int> eos_ids;  // of config.json and generation_config.json
  std::optional<int> bos_id;
  std::optional<QuantizationConfig> quantization;

  int window(int layer) const { return windows.empty() ? 0 : windows[static_cast<size_t>(layer)]; }
  int site_channels(Site site) const;
  int num_qkv_rows() const { return (num_heads + 2 * num_kv_heads) * head_dim; }
};

// Channels of a site padded to whole groups.
inline int padded_channels(int channels) { return round_up(channels, kGroup); }

// Reads FOLDER/config.json (and eos ids of generation_config.json). Throws InvalidInput, or Unsupported with what is
// supported.
ModelConfig read_model_config(const std::filesystem::path& folder);
ModelConfig parse_model_config(const nlohmann::json& config, const std::string& where);

// The quantization_config object of config.json.
nlohmann::json to_json(const QuantizationConfig& config);

}  // namespace comet
