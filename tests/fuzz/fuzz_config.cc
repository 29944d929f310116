// SPDX-License-Identifier: Apache-2.0
// config.json, generation_config.json and tokenizer_config.json of a model folder. What is accepted keeps the promises
// of model/config.h, and its quantization_config comes back the same from the writer.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "fuzz/fuzz.h"
#include "model/config.h"
#include "text/fixtures.h"

namespace comet {
namespace {

void check_sites(const ModelConfig& m, const QuantizationConfig& q) {
  FUZZ_CHECK(q.sites.size() == static_cast<size_t>(m.num_layers) * kSites.size());
  for (int layer = 0; layer < m.num_layers; ++layer)
    for (const Site site : kSites) {
      const ActFormat& a = q.sites.at(site_name(layer, site));
      FUZZ_CHECK(a.k_in == m.site_channels(site) && a.k == padded_channels(a.k_in) && a.k <= kMaxK);
      FUZZ_CHECK(a.num_int8_groups >= 0 && a.num_int8_groups <= a.num_groups() && (a.bits2 == 4 || a.bits2 == 8));
      FUZZ_CHECK(a.clip1 > 0 && a.clip1 <= 1 && a.clip2 > 0 && a.clip2 <= 1);
    }
  FUZZ_CHECK(q.kv.bits == 4 || q.kv.bits == 8 || q.kv.bits == 16);
}

void check(const ModelConfig& m, const std::string& text) {
  FUZZ_CHECK(m.num_layers >= 1 && m.num_kv_heads >= 1 && m.num_heads % m.num_kv_heads == 0);
  FUZZ_CHECK(m.head_dim >= 2 && m.head_dim <= 256 && m.head_dim % 2 == 0);
  FUZZ_CHECK(m.hidden_size >= 1 && m.vocab_size >= 1 && m.max_positions >= 1 && m.num_qkv_rows() > 0);
  FUZZ_CHECK(m.rms_norm_eps >= 0 && m.rms_norm_eps <= 1 && m.rope.theta >= 1);
  FUZZ_CHECK(m.windows.empty() || m.windows.size() == static_cast<size_t>(m.num_layers));
  for (int layer = 0; layer < m.num_layers; ++layer) FUZZ_CHECK(m.window(layer) >= 0);
  FUZZ_CHECK(std::set(m.eos_ids.begin(), m.eos_ids.end()).size() == m.eos_ids.size());
  FUZZ_CHECK(std::all_of(m.eos_ids.begin(), m.eos_ids.end(), [](int id) { return id >= 0; }));
  if (!m.quantization) return;
  check_sites(m, *m.quantization);
  nlohmann::json config = nlohmann::json::parse(text);
  config["quantization_config"] = to_json(*m.quantization);
  const ModelConfig again = parse_model_config(config, "again");
  FUZZ_CHECK(to_json(*again.quantization) == to_json(*m.quantization));
}

void run(std::string_view input) {
  const std::vector<std::string> parts = fuzz::split(input, 3);
  static const TempFolder folder;
  folder.write("config.json", parts[0]);
  for (size_t i = 1; i < parts.size(); ++i) {
    const char* name = i == 1 ? "generation_config.json" : "tokenizer_config.json";
    std::filesystem::remove(folder.path() / name);
    if (!parts[i].empty()) folder.write(name, parts[i]);
  }
  std::optional<ModelConfig> config;
  fuzz::refusal_of([&] { config = read_model_config(folder.path()); });
  if (config) check(*config, parts[0]);
  fuzz::refusal_of([&] {
    const TokenizerConfig tokenizer = TokenizerConfig::load(folder.path());
    for (const AddedToken& token : tokenizer.added_tokens) FUZZ_CHECK(!token.text.empty() && token.id.value_or(0) >= 0);
  });
}

}  // namespace
}  // namespace comet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  comet::run({reinterpret_cast<const char*>(data), size});
  return 0;
}
