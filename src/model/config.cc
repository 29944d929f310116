// SPDX-License-Identifier: Apache-2.0
#include "model/config.h"

#include <algorithm>
#include <cmath>

#include "base/mapped_file.h"
#include "model/json_fields.h"
#include "quant/fp32.h"

namespace comet {
namespace {

using nlohmann::json;

constexpr const char* kSupported = "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM";

void append_ids(const JsonFields& f, const char* key, std::vector<int>& ids) {
  if (!f.has(key)) return;
  constexpr size_t kMaxIds = 1024;
  const json& v = f.raw(key);
  auto add = [&](const json& id) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX || v.size() > kMaxIds)
      f.fail(key, fmt::format("a token id or a list of at most {}", kMaxIds));
    if (std::find(ids.begin(), ids.end(), id.get<int>()) == ids.end()) ids.push_back(id.get<int>());
  };
  if (v.is_array())
    for (const json& id : v) add(id);
  else
    add(v);
}

// rope_scaling (transformers 4) or rope_parameters (5), which also holds rope_theta.
RopeConfig parse_rope(const JsonFields& f) {
  RopeConfig rope;
  rope.theta = f.number("rope_theta", 1.0, 1e12, rope.theta);
  const char* key = f.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!f.has(key)) return rope;
  const JsonFields s(f.raw(key), f.where() + ": " + key);
  rope.theta = s.number("rope_theta", 1.0, 1e12, rope.theta);
  const std::string type = s.text("rope_type", s.text("type", "default"));
  if (type == "default") return rope;
  if (type == "linear") {
    rope.scaling = RopeConfig::Scaling::linear;
    rope.factor = s.number("factor", 1.0, 1e6);
  } else if (type == "llama3") {
    rope.scaling = RopeConfig::Scaling::llama3;
    rope.factor = s.number("factor", 1.0, 1e6);
    rope.low_freq_factor = s.number("low_freq_factor", 1e-6, 1e6);
    rope.high_freq_factor = s.number("high_freq_factor", 1e-6, 1e6);
    rope.original_max_positions = s.number("original_max_position_embeddings", 1.0, 1e9);
    if (rope.high_freq_factor <= rope.low_freq_factor) s.fail("high_freq_factor", "larger than low_freq_factor");
  } else {
    throw_unsupported("{}: rope type \"{}\" is not supported (default, linear, llama3)", f.where(), type);
  }
  return rope;
}

// Which layers `layer_types` gives a window.
std::vector<bool> parse_layer_types(const JsonFields& f, int num_layers) {
  std::vector<bool> has_window;
  const json& types = f.raw("layer_types");
  if (types.is_array())
    for (const json& type : types)
      if (type == "sliding_attention" || type == "full_attention") has_window.push_back(type == "sliding_attention");
  if (!types.is_array() || types.size() != has_window.size() || static_cast<int>(types.size()) != num_layers)
    f.fail("layer_types", fmt::format("a list of {} times full_attention or sliding_attention", num_layers));
  return has_window;
}

// As transformers reads it: a window in every layer of Mistral; in Qwen, where use_sliding_window is set, in the layers
// that layer_types names, else in those from max_window_layers on.
std::vector<int> parse_windows(const JsonFields& f, const std::string& architecture, int num_layers) {
  constexpr int kDefaultWindow = 4096, kDefaultMaxWindowLayers = 28;  // of transformers' classes
  if (architecture == "LlamaForCausalLM") return {};
  const bool is_mistral = architecture == "MistralForCausalLM";
  const bool is_on = !f.is_null("sliding_window") && (is_mistral || f.boolean("use_sliding_window", false));
  const int window = is_on ? f.integer("sliding_window", 1, INT32_MAX, kDefaultWindow) : 0;
  std::vector<bool> has_window(static_cast<size_t>(num_layers), is_on);
  if (!is_mistral) {
    const int first = f.integer("max_window_layers", 0, INT32_MAX, kDefaultMaxWindowLayers);
    std::fill_n(has_window.begin(), std::min(first, num_layers), false);
  }
  if (f.has("layer_types")) has_window = parse_layer_types(f, num_layers);
  const int64_t count = std::count(has_window.begin(), has_window.end(), true);
  if (count > 0 && !is_on) f.fail("sliding_window", "given and used: layer_types names layers with a window");
  if (is_mistral && is_on && count < num_layers)
    throw_unsupported("{}: a Mistral model with a window in some layers only is not supported (in all, or none)",
                      f.where());
  if (count == 0) return {};
  std::vector<int> windows;
  windows.reserve(has_window.size());
  for (const bool has : has_window) windows.push_back(has ? window : 0);
  return windows;
}

ActFormat parse_site(const JsonFields& f, int channels) {
  f.allow_only({"n8", "bits2", "rotate", "clip1", "clip2"});
  ActFormat a;
  a.k_in = channels;
  a.k = padded_channels(channels);
  a.num_int8_groups = f.integer("n8", 0, a.num_groups());
  a.bits2 = f.integer("bits2", 4, 8);
  if (a.bits2 != 4 && a.bits2 != 8) f.fail("bits2", "4 or 8");
  a.rotate = f.boolean("rotate", false);
  a.clip1 = static_cast<float>(f.number("clip1", 0x1p-8, 1.0));
  a.clip2 = static_cast<float>(f.number("clip2", 0x1p-8, 1.0));
  return a;
}

QuantizationConfig parse_quantization(const json& object, const ModelConfig& model, const std::string& where) {
  const JsonFields f(object, where + ": quantization_config");
  const std::string method = f.text("quant_method", "");
  if (method != "comet")
    throw_unsupported(
        "{}: quant_method \"{}\" is not supported (\"comet\", or an unquantized bf16, fp16 or fp32 model)", where,
        method);
  QuantizationConfig q;
  q.format_version = f.integer("format_version", 1, INT32_MAX);
  if (q.format_version > kFormatVersion)
    throw_unsupported("{}: format_version {} is newer than this program, which reads up to {}", where, q.format_version,
                      kFormatVersion);
  f.allow_only({"quant_method", "format_version", "quantizer_version", "group_size", "shards", "kv", "sites",
                "calibration", "recipe"});
  if (f.integer("group_size", 1, INT32_MAX) != kGroup) f.fail("group_size", "128");
  if (f.integer("shards", 1, 1024, 1) != 1)
    throw_unsupported("{}: shards > 1 (tensor parallelism) is not supported yet, only 1", where);
  if (!f.has("kv")) throw_invalid("{}: \"kv\" is missing", f.where());
  const JsonFields kv(f.raw("kv"), f.where() + ".kv");
  kv.allow_only({"bits", "k_rotate", "v_rotate", "smooth"});
  q.kv.bits = kv.integer("bits", 4, 16);
  if (q.kv.bits != 4 && q.kv.bits != 8 && q.kv.bits != 16) kv.fail("bits", "4, 8 or 16");
  q.kv.k_rotate = kv.boolean("k_rotate", false);
  q.kv.v_rotate = kv.boolean("v_rotate", false);
  q.kv.smooth = kv.boolean("smooth", false);
  if ((q.kv.k_rotate || q.kv.v_rotate) && !is_power_of_two(model.head_dim))
    kv.fail(q.kv.k_rotate ? "k_rotate" : "v_rotate",
            fmt::format("false: head_dim {} is not a power of two", model.head_dim));
  if (!f.has("sites")) throw_invalid("{}: \"sites\" is missing", f.where());
  const JsonFields sites(f.raw("sites"), f.where() + ".sites");
  for (int layer = 0; layer < model.num_layers; ++layer)
    for (const Site site : kSites) {
      const std::string name = site_name(layer, site);
      if (!sites.has(name.c_str())) throw_invalid("{}: \"{}\" is missing", sites.where(), name);
      q.sites[name] =
          parse_site(JsonFields(sites.raw(name.c_str()), sites.where() + "." + name), model.site_channels(site));
    }
  if (f.has("recipe")) q.recipe_json = f.raw("recipe").dump();
  q.calibration = f.text("calibration", "");
  q.quantizer_version = f.text("quantizer_version", "");
  return q;
}

void check_shape(const ModelConfig& m, const JsonFields& f) {
  if (m.num_heads % m.num_kv_heads != 0)
    f.fail("num_key_value_heads", fmt::format("a divisor of num_attention_heads {}", m.num_heads));
  if (m.head_dim % 2 != 0 || m.head_dim > 256) f.fail("head_dim", "even and at most 256");
  for (const Site site : kSites)
    if (padded_channels(m.site_channels(site)) > kMaxK)
      throw_unsupported("{}: {} channels at {} are more than the {} supported", f.where(), m.site_channels(site),
                        to_string(site), kMaxK);
}

}  // namespace

const char* to_string(Site site) {
  switch (site) {
    case Site::attn_in: return "attn_in";
    case Site::o_in: return "o_in";
    case Site::mlp_in: return "mlp_in";
    case Site::down_in: return "down_in";
  }
  return "?";
}

std::string site_name(int layer, Site site) { return fmt::format("model.layers.{}.{}", layer, to_string(site)); }

int ModelConfig::site_channels(Site site) const {
  switch (site) {
    case Site::attn_in:
    case Site::mlp_in: return hidden_size;
    case Site::o_in: return num_heads * head_dim;
    case Site::down_in: return intermediate_size;
  }
  return 0;
}

ModelConfig parse_model_config(const json& config, const std::string& where) {
  const JsonFields f(config, where);
  ModelConfig m;
  if (f.has("architectures") && f.raw("architectures").is_array() && !f.raw("architectures").empty() &&
      f.raw("architectures")[0].is_string())
    m.architecture = f.raw("architectures")[0].get<std::string>();
  const bool is_qwen2 = m.architecture == "Qwen2ForCausalLM", is_qwen3 = m.architecture == "Qwen3ForCausalLM";
  if (m.architecture != "LlamaForCausalLM" && m.architecture != "MistralForCausalLM" && !is_qwen2 && !is_qwen3)
    throw_unsupported("{}: architecture \"{}\" is not supported ({})", where, m.architecture, kSupported);
  if (const std::string act = f.text("hidden_act", "silu"); act != "silu")
    throw_unsupported("{}: hidden_act \"{}\" is not supported (silu)", where, act);
  m.hidden_size = f.integer("hidden_size", 1, 1 << 20);
  m.intermediate_size = f.integer("intermediate_size", 1, 1 << 20);
  m.num_layers = f.integer("num_hidden_layers", 1, 4096);
  m.num_heads = f.integer("num_attention_heads", 1, 4096);
  m.num_kv_heads = f.integer("num_key_value_heads", 1, 4096, m.num_heads);
  m.head_dim = f.integer("head_dim", 2, 256, std::max(1, m.hidden_size / m.num_heads));
  m.vocab_size = f.integer("vocab_size", 1, 1 << 24);
  m.max_positions = f.integer("max_position_embeddings", 1, 1 << 24, 2048);
  m.rms_norm_eps = static_cast<float>(f.number("rms_norm_eps", 0.0, 1.0, 1e-6));
  m.tie_embeddings = f.boolean("tie_word_embeddings", false);
  m.qkv_bias = is_qwen2 || f.boolean("attention_bias", false);
  m.o_bias = !is_qwen2 && f.boolean("attention_bias", false);
  m.mlp_bias = f.boolean("mlp_bias", false);
  m.qk_norm = is_qwen3;
  m.rope = parse_rope(f);
  m.windows = parse_windows(f, m.architecture, m.num_layers);
  append_ids(f, "eos_token_id", m.eos_ids);
  if (f.has("bos_token_id") && f.raw("bos_token_id").is_number_integer())
    m.bos_id = f.integer("bos_token_id", 0, INT32_MAX);
  check_shape(m, f);
  if (f.has("quantization_config")) m.quantization = parse_quantization(f.raw("quantization_config"), m, where);
  return m;
}

ModelConfig read_model_config(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) throw_invalid("{} is not a folder with a model", folder.string());
  const std::filesystem::path file = folder / "config.json";
  if (!std::filesystem::exists(file)) throw_invalid("missing config.json in {}", folder.string());
  ModelConfig m = parse_model_config(read_json(file), file.string());
  if (const std::filesystem::path g = folder / "generation_config.json"; std::filesystem::exists(g)) {
    const json generation = read_json(g);
    append_ids(JsonFields(generation, g.string()), "eos_token_id", m.eos_ids);
  }
  return m;
}

json to_json(const QuantizationConfig& q) {
  json sites = json::object();
  for (const auto& [name, a] : q.sites)
    sites[name] = {{"n8", a.num_int8_groups},
                   {"bits2", a.bits2},
                   {"rotate", a.rotate},
                   {"clip1", static_cast<double>(a.clip1)},
                   {"clip2", static_cast<double>(a.clip2)}};
  json out = {
      {"quant_method", "comet"},
      {"format_version", q.format_version},
      {"quantizer_version", q.quantizer_version},
      {"group_size", kGroup},
      {"shards", 1},
      {"kv", {{"bits", q.kv.bits}, {"k_rotate", q.kv.k_rotate}, {"v_rotate", q.kv.v_rotate}, {"smooth", q.kv.smooth}}},
      {"sites", sites},
      {"calibration", q.calibration}};
  if (!q.recipe_json.empty()) out["recipe"] = json::parse(q.recipe_json);
  return out;
}

}  // namespace comet
