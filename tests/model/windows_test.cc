// SPDX-License-Identifier: Apache-2.0
// Which layers have an attention window, as transformers reads a config.json of either spelling.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/mapped_file.h"
#include "model/config.h"

namespace comet {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

using Windows = std::vector<int>;

Windows windows_of(const std::string& architecture, int num_layers, const json& keys) {
  json config = {{"architectures", {architecture}}, {"num_hidden_layers", num_layers}, {"hidden_size", 128},
                 {"intermediate_size", 128},        {"num_attention_heads", 2},        {"vocab_size", 64}};
  config.update(keys);
  return parse_model_config(config, "config.json").windows;
}

TEST(Windows, OfEveryFamily) {
  const json mistral = {{"sliding_window", 24}};
  EXPECT_EQ(windows_of("MistralForCausalLM", 2, mistral), (Windows{24, 24}));
  EXPECT_EQ(windows_of("MistralForCausalLM", 2, {{"sliding_window", nullptr}}), Windows{});
  EXPECT_EQ(windows_of("MistralForCausalLM", 2, json::object()), (Windows{4096, 4096}));
  EXPECT_EQ(windows_of("LlamaForCausalLM", 2, mistral), Windows{});
  for (const char* qwen : {"Qwen2ForCausalLM", "Qwen3ForCausalLM"}) {
    json keys = {{"sliding_window", 24}, {"max_window_layers", 2}};
    EXPECT_EQ(windows_of(qwen, 3, keys), Windows{});
    keys["use_sliding_window"] = true;
    EXPECT_EQ(windows_of(qwen, 3, keys), (Windows{0, 0, 24}));
    EXPECT_EQ(windows_of(qwen, 2, keys), Windows{});
    keys["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention"};
    EXPECT_EQ(windows_of(qwen, 3, keys), (Windows{24, 0, 24}));
    keys.erase("layer_types");
    keys.erase("max_window_layers");
    EXPECT_EQ(windows_of(qwen, 28, keys), Windows{});
    EXPECT_EQ(windows_of(qwen, 30, keys)[28], 24);
    keys["sliding_window"] = nullptr;
    EXPECT_EQ(windows_of(qwen, 30, keys), Windows{});
  }
}

TEST(Windows, RefusedWhereNobodyKnows) {
  auto message = [](const std::string& architecture, const json& keys) {
    try {
      windows_of(architecture, 2, keys);
    } catch (const InvalidInput& e) {
      return std::string(e.what());
    }
    return std::string("nothing thrown");
  };
  const json window = {{"sliding_window", 24}, {"use_sliding_window", true}};
  auto with_types = [](json keys, const json& types) {
    keys["layer_types"] = types;
    return keys;
  };
  EXPECT_THAT(message("MistralForCausalLM", with_types(window, {"full_attention", "sliding_attention"})),
              HasSubstr("in some layers only"));
  EXPECT_THAT(message("Qwen2ForCausalLM", with_types(window, {"full_attention"})), HasSubstr("layer_types"));
  EXPECT_THAT(message("Qwen2ForCausalLM", with_types(window, {"full_attention", "linear_attention"})),
              HasSubstr("linear_attention"));
  EXPECT_THAT(
      message("Qwen2ForCausalLM", with_types({{"sliding_window", 24}}, {"full_attention", "sliding_attention"})),
      HasSubstr("sliding_window"));
  for (const json& bad : {json(0), json(-1), json("wide"), json(1.5)})
    EXPECT_THAT(message("MistralForCausalLM", {{"sliding_window", bad}}), HasSubstr("sliding_window"));
}

// The older spelling has no layer_types.
TEST(Windows, GoldensSayTheSameInBothSpellings) {
  int num_windowed = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(COMET_SOURCE_DIR) / "tests/goldens/models")) {
    auto windows_in = [&](const char* file) {
      return parse_model_config(json::parse(read_file(entry.path() / file)), file).windows;
    };
    EXPECT_EQ(windows_in("config.json"), windows_in("config.transformers4.json")) << entry.path();
    num_windowed += windows_in("config.json").empty() ? 0 : 1;
  }
  EXPECT_EQ(num_windowed, 3);
}

}  // namespace
}  // namespace comet
