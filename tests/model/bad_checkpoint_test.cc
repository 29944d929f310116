// SPDX-License-Identifier: Apache-2.0
// Folders and files that lie: each is refused with a message that says what is wrong and where.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace comet {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

// What `f` throws as InvalidInput.
std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const InvalidInput& e) {
    return e.what();
  } catch (const std::exception& e) {
    return std::string("not InvalidInput: ") + e.what();
  }
  return "nothing thrown";
}

class BadFile : public testing::Test {
 protected:
  BadFile() { fs::create_directories(folder_); }
  ~BadFile() override { fs::remove_all(folder_); }

  // A safetensors file with this header and so many data bytes; claimed_bytes: the length it states.
  fs::path write(const std::string& header, size_t data_bytes, int64_t claimed_bytes = -1) {
    const fs::path file = folder_ / "model.safetensors";
    const uint64_t claimed = claimed_bytes < 0 ? header.size() : static_cast<uint64_t>(claimed_bytes);
    std::ofstream out(file, std::ios::binary);
    out.write(reinterpret_cast<const char*>(&claimed), 8);
    out << header << std::string(data_bytes, '\1');
    return file;
  }
  std::string refusal(const std::string& header, size_t data_bytes, int64_t claimed_bytes = -1) {
    const fs::path file = write(header, data_bytes, claimed_bytes);
    const std::string message = message_of([&] { Safetensors::open_file(file); });
    EXPECT_THAT(message, HasSubstr(file.string()));
    return message;
  }

  fs::path folder_ = fs::path(testing::TempDir()) / ("comet-bad-file-" + std::to_string(getpid()));
};

std::string entry(const std::string& name, const std::string& shape, int begin, int end,
                  const std::string& dtype = "F32") {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":[" +
         std::to_string(begin) + "," + std::to_string(end) + "]}";
}

TEST_F(BadFile, TheGoodOneIsRead) {
  const Safetensors s = Safetensors::open_file(
      write("{" + entry("a", "[2]", 0, 8) + "," + entry("b", "[0]", 8, 8) + "," + entry("c", "[]", 8, 12) + "}", 12));
  EXPECT_EQ(s.tensors().size(), 3u);
  EXPECT_EQ(s.total_bytes(), 12u);
}

// Headers of odd length put every tensor at an odd address.
TEST_F(BadFile, UnalignedTensorsAreRead) {
  std::string header = "{" + entry("a", "[2]", 0, 8) + "}";
  if (header.size() % 2 == 0) header += ' ';
  const Safetensors s = Safetensors::open_file(write(header, 8));
  float want;
  memcpy(&want, "\1\1\1\1", 4);
  EXPECT_EQ(to_f32(s.at("a")), std::vector<float>({want, want}));
}

TEST_F(BadFile, LengthsThatLie) {
  EXPECT_THAT(refusal("{}", 0, 3), HasSubstr("the header claims 3 bytes, the file has 10"));
  EXPECT_THAT(refusal("{}", 0, std::numeric_limits<int64_t>::max()), HasSubstr("the header claims"));
  EXPECT_THAT(refusal("{" + entry("a", "[2]", 0, 8) + "}", 7),
              AllOf(HasSubstr("\"a\""), HasSubstr("outside the file's 7 data bytes (is the file truncated?)")));
  EXPECT_THAT(refusal("{" + entry("a", "[2]", 0, 8) + "}", 9), HasSubstr("the last 1 bytes belong to no tensor"));
  const fs::path file = folder_ / "short";
  std::ofstream(file) << "1234567";
  EXPECT_THAT(message_of([&] { Safetensors::open_file(file); }), HasSubstr("7 bytes are too few"));
  std::ofstream(folder_ / "empty");
  EXPECT_THAT(message_of([&] { Safetensors::open_file(folder_ / "empty"); }), HasSubstr("0 bytes are too few"));
}

TEST_F(BadFile, EveryTruncationIsRefused) {
  const fs::path file = write("{" + entry("a", "[2]", 0, 8) + "," + entry("b", "[1,2]", 8, 12, "BF16") + "}", 12);
  const std::string whole = read_file(file);
  for (size_t size = 0; size < whole.size(); ++size) {
    std::ofstream(file, std::ios::binary).write(whole.data(), static_cast<std::streamsize>(size));
    EXPECT_THROW(Safetensors::open_file(file), InvalidInput) << size << " of " << whole.size() << " bytes";
  }
}

TEST_F(BadFile, OffsetsThatLie) {
  EXPECT_THAT(refusal("{" + entry("a", "[2]", 0, 8) + "," + entry("b", "[2]", 4, 12) + "}", 12),
              HasSubstr("\"b\" overlaps the one before it"));
  EXPECT_THAT(refusal("{" + entry("a", "[2]", 0, 8) + "," + entry("b", "[1]", 12, 16) + "}", 16),
              HasSubstr("4 bytes before tensor \"b\" belong to no tensor"));
  EXPECT_THAT(refusal("{" + entry("a", "[3]", 0, 8) + "}", 8),
              HasSubstr("f32 [3] needs 12 bytes, data_offsets give 8"));
  EXPECT_THAT(refusal("{" + entry("a", "[2]", 8, 0) + "}", 8), HasSubstr("lie outside"));
  EXPECT_THAT(refusal("{" + entry("a", "[2]", -8, 0) + "}", 8), HasSubstr("not non-negative integers"));
  EXPECT_THAT(refusal("{" + entry("a", "[-2]", 0, 8) + "}", 8), HasSubstr("a dimension is not a non-negative integer"));
  EXPECT_THAT(refusal("{" + entry("a", "[1099511627776,1099511627776]", 0, 8) + "}", 8),
              HasSubstr("the shape overflows"));
  EXPECT_THAT(refusal("{" + entry("a", "[0,1099511627777]", 0, 0) + "}", 0), HasSubstr("the shape overflows"));
  EXPECT_THAT(refusal("{" + entry("a", "[1099511627776,2097152,0]", 0, 0) + "}", 0), HasSubstr("the shape overflows"));
}

TEST_F(BadFile, HeadersThatAreNone) {
  EXPECT_THAT(refusal("{\"a\":", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal("[]", 0), HasSubstr("not a JSON object"));
  EXPECT_THAT(refusal(std::string(100000, '['), 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal("{" + entry("a", "[2]", 0, 8) + "," + entry("a", "[2]", 0, 8) + "}", 8),
              HasSubstr("the key \"a\" twice"));
  EXPECT_THAT(refusal("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8),
              HasSubstr("the key \"dtype\" twice"));
  EXPECT_THAT(refusal("{\"a\":[]}", 0), HasSubstr("must have dtype, shape and data_offsets"));
  EXPECT_THAT(refusal("{" + entry("a", "[2]", 0, 16, "F64") + "}", 16), HasSubstr("dtype F64 is not supported"));
}

// A copy of a tiny model whose parts are then spoilt.
class BadFolder : public testing::Test {
 protected:
  BadFolder() {
    fs::remove_all(folder_);
    fs::copy(fs::path(COMET_SOURCE_DIR) / "tests/goldens/models/llama-plain", folder_);
    config_ = json::parse(read_file(folder_ / "config.json"));
  }
  ~BadFolder() override { fs::remove_all(folder_); }

  void write_config() { std::ofstream(folder_ / "config.json") << config_; }
  std::string refusal() {
    write_config();
    const auto backend = ref_backend();
    return message_of(
        [&] { const Model model(*backend, Checkpoint::open(folder_), {.max_batch_tokens = 16, .max_logit_rows = 1}); });
  }
  // The refusal with one key of config.json changed.
  std::string refusal_with(const std::string& key, const json& value) {
    const json before = config_;
    config_[key] = value;
    const std::string message = refusal();
    config_ = before;
    return message;
  }
  std::map<std::string, OwnedTensor> load_tensors() {
    std::map<std::string, OwnedTensor> tensors;
    const Safetensors file = Safetensors::open_file(folder_ / "model.safetensors");
    for (const auto& [name, view] : file.tensors()) {
      const uint8_t* p = static_cast<const uint8_t*>(view.data);
      tensors[name] = {view.dtype, view.shape, {p, p + view.bytes()}};
    }
    return tensors;
  }

  fs::path folder_ = fs::path(testing::TempDir()) / ("comet-bad-folder-" + std::to_string(getpid()));
  json config_;
};

TEST_F(BadFolder, TheGoodOneIsRead) { EXPECT_EQ(refusal(), "nothing thrown"); }

TEST_F(BadFolder, MissingFiles) {
  EXPECT_THAT(message_of([&] { Checkpoint::open(folder_ / "none"); }), HasSubstr("is not a folder"));
  EXPECT_THAT(message_of([&] { Tokenizer::load(folder_); }), HasSubstr("tokenizer.json"));
  fs::rename(folder_ / "model.safetensors", folder_ / "weights.bin");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("no weights in"), HasSubstr("model.safetensors")));
  fs::remove(folder_ / "config.json");
  EXPECT_THAT(message_of([&] { Checkpoint::open(folder_); }), HasSubstr("missing config.json"));
}

TEST_F(BadFolder, MissingShard) {
  fs::remove_all(folder_);
  fs::copy(fs::path(COMET_SOURCE_DIR) / "tests/goldens/models/mistral-window-sharded", folder_);
  fs::remove(folder_ / "model-00002-of-00002.safetensors");
  EXPECT_THAT(message_of([&] { Checkpoint::open(folder_); }),
              AllOf(HasSubstr("missing shard"), HasSubstr("model-00002-of-00002.safetensors")));
  fs::copy(folder_ / "model-00001-of-00002.safetensors", folder_ / "model-00002-of-00002.safetensors");
  EXPECT_THAT(message_of([&] { Checkpoint::open(folder_); }), HasSubstr("is already in another shard"));
  std::ofstream(folder_ / "model.safetensors.index.json") << R"({"weight_map": {"a": "../model.safetensors"}})";
  EXPECT_THAT(message_of([&] { Checkpoint::open(folder_); }), HasSubstr("does not map to a file name in this folder"));
  std::ofstream(folder_ / "model.safetensors.index.json") << json{{"weight_map", {{"a", std::string(300, 'x')}}}};
  EXPECT_THAT(message_of([&] { Checkpoint::open(folder_); }), HasSubstr("missing shard"));
  std::ofstream(folder_ / "model.safetensors.index.json")
      << R"({"weight_map": {"a": "model-00001-of-00002.safetensors"}})";
  EXPECT_THAT(message_of([&] { Checkpoint::open(folder_); }), HasSubstr("\"a\" is not in the shard"));
}

TEST_F(BadFolder, WrongTensors) {
  const std::map<std::string, OwnedTensor> good = load_tensors();
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  auto refusal_of = [&](const std::function<void(std::map<std::string, OwnedTensor>&)>& spoil) {
    auto tensors = good;
    spoil(tensors);
    write_safetensors(folder_ / "model.safetensors", tensors);
    return refusal();
  };
  EXPECT_THAT(refusal_of([&](auto& t) { t.erase(name); }), HasSubstr("tensor \"" + name + "\" is missing"));
  EXPECT_THAT(refusal_of([&](auto& t) { std::swap(t[name].shape[0], t[name].shape[1]); }),
              AllOf(HasSubstr(name), HasSubstr("expected a float tensor")));
  EXPECT_THAT(refusal_of([&](auto& t) {
                t[name].dtype = DType::i8;
                t[name].shape[0] *= 2;
              }),
              AllOf(HasSubstr(name), HasSubstr("i8")));
  EXPECT_THAT(refusal_of([&](auto& t) {
                t["model.layers.0.mlp.up_proj.qweight"] = {DType::u8, {1}, {0}};
              }),
              HasSubstr("quantized tensor"));
}

TEST_F(BadFolder, UnsupportedConfigs) {
  EXPECT_THAT(refusal_with("architectures", json::array({"GPT2LMHeadModel"})),
              AllOf(HasSubstr("GPT2LMHeadModel"), HasSubstr("LlamaForCausalLM, MistralForCausalLM")));
  EXPECT_THAT(refusal_with("hidden_act", "gelu"), AllOf(HasSubstr("gelu"), HasSubstr("(silu)")));
  EXPECT_THAT(refusal_with("rope_parameters", {{"rope_type", "yarn"}, {"factor", 4.0}}),
              AllOf(HasSubstr("yarn"), HasSubstr("(default, linear, llama3)")));
  EXPECT_THAT(refusal_with("rope_parameters", {{"rope_type", "linear"}}), HasSubstr("\"factor\" is missing"));
  EXPECT_THAT(refusal_with("hidden_size", "big"), AllOf(HasSubstr("hidden_size"), HasSubstr("an integer in")));
  EXPECT_THAT(refusal_with("num_hidden_layers", -1), HasSubstr("num_hidden_layers"));
  EXPECT_THAT(refusal_with("head_dim", 63), HasSubstr("head_dim"));
  EXPECT_THAT(refusal_with("num_key_value_heads", 3), HasSubstr("a divisor of num_attention_heads"));
  EXPECT_THAT(refusal_with("vocab_size", 1e300), HasSubstr("vocab_size"));
  EXPECT_THAT(refusal_with("quantization_config", {{"quant_method", "awq"}}),
              AllOf(HasSubstr("awq"), HasSubstr("\"comet\"")));
  EXPECT_THAT(refusal_with("eos_token_id", std::vector<int>(1025, 1)), HasSubstr("a list of at most 1024"));
  const std::string deep = std::string(1'000'000, '[') + std::string(1'000'000, ']');
  std::ofstream(folder_ / "config.json") << "{\"hidden_size\":" << deep << "}";
  EXPECT_THAT(message_of([&] { Checkpoint::open(folder_); }), HasSubstr("nested deeper than 100 levels"));
  std::ofstream(folder_ / "config.json") << "{";
  EXPECT_THAT(message_of([&] { Checkpoint::open(folder_); }), HasSubstr("not valid JSON"));
}

TEST_F(BadFolder, LengthsBeyondTheModel) {
  const auto backend = ref_backend();
  const Checkpoint checkpoint = Checkpoint::open(folder_);
  EXPECT_THAT(message_of([&] {
                const Model m(*backend, checkpoint, {.max_positions = checkpoint.config().max_positions + 1});
              }),
              HasSubstr("max_position_embeddings"));
  EXPECT_THAT(message_of([&] { resolve_kv_format(checkpoint.config(), 5); }), HasSubstr("(4, 8, 16)"));
}

TEST_F(BadFolder, TokenOutsideTheVocabulary) {
  const auto backend = ref_backend();
  Model model(*backend, Checkpoint::open(folder_), {.max_batch_tokens = 16, .max_logit_rows = 1});
  KvPool pool(*backend, model.config(), model.kv_format(), 1);
  for (const int32_t id : {-1, model.config().vocab_size}) {
    HostBatch batch;
    batch.add_sequence(std::vector<int32_t>{id}, 0, std::vector<int32_t>{0});
    EXPECT_THAT(message_of([&] { model.forward(batch, pool); }), HasSubstr("outside the vocabulary"));
  }
}

}  // namespace
}  // namespace comet
