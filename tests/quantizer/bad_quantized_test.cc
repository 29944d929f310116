// SPDX-License-Identifier: Apache-2.0
// Quantized checkpoints that break the format's rules are refused when they are loaded.
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "folders.h"
#include "model/model.h"

namespace comet {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

class BadQuantized : public testing::Test {
 protected:
  BadQuantized() {
    quantize(golden_model("llama-plain"), folder_ / "model", "rtn", {{"act_bits", "4"}, {"int8_groups", "1"}});
    good_ = load_tensors(folder_ / "model/model.safetensors");
    config_ = json::parse(read_file(folder_ / "model/config.json"));
  }

  std::string load() {
    const auto backend = ref_backend();
    return message_of([&] {
      const Model model(*backend, Checkpoint::open(folder_ / "model"), {.max_batch_tokens = 16, .max_logit_rows = 1});
    });
  }
  template <typename T>
  std::string refusal_of(const std::string& tensor, size_t index, T value) {
    auto tensors = good_;
    EXPECT_TRUE(tensors.contains(tensor)) << tensor;
    EXPECT_LE((index + 1) * sizeof(T), tensors[tensor].bytes.size());
    memcpy(&tensors[tensor].bytes[index * sizeof(T)], &value, sizeof(T));
    write_safetensors(folder_ / "model/model.safetensors", tensors);
    const std::string message = load();
    write_safetensors(folder_ / "model/model.safetensors", good_);
    return message;
  }
  std::string refusal_with(const json& patch) {
    json config = config_;
    config["quantization_config"].merge_patch(patch);
    std::ofstream(folder_ / "model/config.json") << config;
    const std::string message = load();
    std::ofstream(folder_ / "model/config.json") << config_;
    return message;
  }

  TemporaryFolder folder_;
  std::map<std::string, OwnedTensor> good_;
  json config_;
};

TEST_F(BadQuantized, TheGoodOneIsRead) { EXPECT_EQ(load(), "nothing thrown"); }

TEST_F(BadQuantized, ActPermThatIsNoBijection) {
  const std::string perm = "model.layers.1.attn_in.act_perm";
  EXPECT_THAT(refusal_of(perm, 3, int32_t{4}), AllOf(HasSubstr(perm), HasSubstr("channel 4 appears twice")));
  EXPECT_THAT(refusal_of(perm, 3, int32_t{-1}), AllOf(HasSubstr(perm), HasSubstr("channel 3 is missing")));
  EXPECT_THAT(refusal_of(perm, 3, int32_t{-2}), AllOf(HasSubstr(perm), HasSubstr("[3] is -2")));
  EXPECT_THAT(refusal_of(perm, 3, int32_t{1 << 30}), HasSubstr("[3] is 1073741824"));
  auto tensors = good_;
  int32_t* down = reinterpret_cast<int32_t*>(tensors["model.layers.0.down_in.act_perm"].bytes.data());
  std::swap(down[0], down[1]);
  write_safetensors(folder_ / "model/model.safetensors", tensors);
  EXPECT_THAT(load(), HasSubstr("must be the identity"));
}

TEST_F(BadQuantized, GroupParametersOutsideTheRule) {
  const std::string name = "model.layers.0.self_attn.q_proj";
  EXPECT_THAT(refusal_of(name + ".group_scale", 2, uint8_t{0}),
              AllOf(HasSubstr(name), HasSubstr("row 2 group 0"), HasSubstr("outside the rule")));
  EXPECT_THAT(refusal_of(name + ".group_scale", 2, uint8_t{17}), HasSubstr("group scale 17"));
  EXPECT_THAT(refusal_of(name + ".group_zero", 2, uint8_t{16}), HasSubstr("zero 16"));
  auto tensors = good_;
  tensors[name + ".group_scale"].bytes[0] = 15;  // allows 7..8
  tensors[name + ".group_zero"].bytes[0] = 9;
  write_safetensors(folder_ / "model/model.safetensors", tensors);
  EXPECT_THAT(load(), HasSubstr("group scale 15 with zero 9 is outside the rule (scale 1..16, zero 7..8)"));
}

TEST_F(BadQuantized, ChannelScales) {
  for (const std::string name : {"model.layers.1.mlp.down_proj", "lm_head"})
    for (const float value : {0.0f, -1.0f, std::numeric_limits<float>::infinity(), std::nanf("")})
      EXPECT_THAT(refusal_of(name + ".channel_scale", 7, value),
                  AllOf(HasSubstr(name), HasSubstr("row 7"), HasSubstr("finite and above 0")))
          << value;
  EXPECT_THAT(refusal_of("lm_head.weight", 9, int8_t{-128}), AllOf(HasSubstr("lm_head"), HasSubstr("-128")));
}

TEST_F(BadQuantized, WrongShapesAndDtypes) {
  auto tensors = good_;
  tensors["model.layers.0.self_attn.o_proj.qweight"].dtype = DType::i8;
  write_safetensors(folder_ / "model/model.safetensors", tensors);
  EXPECT_THAT(load(), AllOf(HasSubstr("o_proj.qweight"), HasSubstr("i8"), HasSubstr("expected u8")));
  tensors = good_;
  tensors.erase("model.layers.1.o_in.act_perm");
  write_safetensors(folder_ / "model/model.safetensors", tensors);
  EXPECT_THAT(load(), HasSubstr("\"model.layers.1.o_in.act_perm\" is missing"));
}

TEST_F(BadQuantized, Configs) {
  const std::string site = "model.layers.0.attn_in";
  EXPECT_THAT(refusal_with({{"format_version", 2}}),
              HasSubstr("format_version 2 is newer than this program, which reads up to 1"));
  EXPECT_THAT(refusal_with({{"group_size", 64}}), AllOf(HasSubstr("group_size"), HasSubstr("128")));
  EXPECT_THAT(refusal_with({{"shards", 2}}), HasSubstr("shards"));
  EXPECT_THAT(refusal_with({{"kv", {{"bits", 5}}}}), HasSubstr("4, 8 or 16"));
  EXPECT_THAT(refusal_with({{"kv", nullptr}}), HasSubstr("\"kv\" is missing"));
  EXPECT_THAT(refusal_with({{"sites", {{site, nullptr}}}}), AllOf(HasSubstr(site), HasSubstr("missing")));
  EXPECT_THAT(refusal_with({{"sites", {{site, {{"n8", 2}}}}}}), AllOf(HasSubstr("n8"), HasSubstr("0..1")));
  EXPECT_THAT(refusal_with({{"sites", {{site, {{"n8", -1}}}}}}), HasSubstr("n8"));
  EXPECT_THAT(refusal_with({{"sites", {{site, {{"bits2", 6}}}}}}), HasSubstr("4 or 8"));
  EXPECT_THAT(refusal_with({{"sites", {{site, {{"clip2", 1.5}}}}}}), HasSubstr("clip2"));
  EXPECT_THAT(refusal_with({{"sites", {{site, {{"clip1", 0.001}}}}}}), HasSubstr("clip1"));
  EXPECT_THAT(refusal_with({{"sites", {{site, {{"rotate", "yes"}}}}}}), HasSubstr("true or false"));
}

}  // namespace
}  // namespace comet
