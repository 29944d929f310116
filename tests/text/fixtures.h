// SPDX-License-Identifier: Apache-2.0
// Small tokenizers made up for the tests, one for each way in which tokens become text, and folders to load from.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "base/check.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace comet {

using Json = nlohmann::ordered_json;

inline std::string utf8(char32_t c) {
  std::string s;
  const auto put = [&](char32_t byte) { s.push_back(static_cast<char>(byte)); };
  if (c < 0x80) return put(c), s;
  if (c < 0x800) return put(0xC0 | c >> 6), put(0x80 | (c & 63)), s;
  if (c < 0x10000) return put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 63)), put(0x80 | (c & 63)), s;
  return put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 63)), put(0x80 | (c >> 6 & 63)), put(0x80 | (c & 63)), s;
}

inline Json added_token(int id, const std::string& content, bool special = true) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

inline Json tokenizer_json(Json model, Json added, Json normalizer, Json pre_tokenizer, Json post_processor,
                           Json decoder) {
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", normalizer},
          {"pre_tokenizer", pre_tokenizer},
          {"post_processor", post_processor},
          {"decoder", decoder},
          {"model", model}};
}

inline Json bpe(Json vocab, Json merges = Json::array(), Json more = Json::object()) {
  Json model = {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}};
  model.update(more);
  return model;
}

// Byte-level BPE without merges: the id of a byte is the byte. 256 <|begin|>, 257 <|end|> special, 258 <tool> not.
inline Json byte_level_json() {
  Json vocab = Json::object();
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    vocab[utf8(printable ? static_cast<char32_t>(byte) : next++)] = byte;
  }
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  return tokenizer_json(bpe(vocab),
                        {added_token(256, "<|begin|>"), added_token(257, "<|end|>"), added_token(258, "<tool>", false)},
                        nullptr, byte_level, nullptr, byte_level);
}

// As Llama 2: 0 <unk>, 1 <s>, 2 </s>, 3 + byte for bytes, then pieces; BOS in front.
inline Json byte_fallback_json() {
  Json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) vocab[fmt::format("<0x{:02X}>", byte)] = 3 + byte;
  int id = 259;
  for (const char* piece : {"▁", "a", "b", "c", "é", "▁a", "▁▁", "ab", "▁ab"}) vocab[piece] = id++;
  const Json merges = {"▁ ▁", "a b", "▁ ab", "▁ a"};
  const Json special = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const Json sequence = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const Json replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}};
  const Json replace_back = {{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}};
  return tokenizer_json(bpe(vocab, merges, {{"unk_token", "<unk>"}, {"fuse_unk", true}, {"byte_fallback", true}}),
                        {added_token(0, "<unk>"), added_token(1, "<s>"), added_token(2, "</s>")},
                        {{"type", "Sequence"}, {"normalizers", {{{"type", "Prepend"}, {"prepend", "▁"}}, replace}}},
                        nullptr,
                        {{"type", "TemplateProcessing"},
                         {"single", {special, sequence}},
                         {"pair", {sequence, sequence}},
                         {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {1}}, {"tokens", {"<s>"}}}}}}},
                        {{"type", "Sequence"},
                         {"decoders",
                          {replace_back,
                           {{"type", "ByteFallback"}},
                           {{"type", "Fuse"}},
                           {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}});
}

// Words in a vocabulary and any decoder: for those that need the window.
inline Json words_json(const std::vector<std::string>& words, Json decoder) {
  Json vocab = Json::object();
  for (const std::string& word : words) vocab[word] = vocab.size();
  const int id = static_cast<int>(vocab.size());
  return tokenizer_json({{"type", "WordLevel"}, {"vocab", vocab}, {"unk_token", words.front()}},
                        {added_token(id, "[END]")}, nullptr, {{"type", "WhitespaceSplit"}}, nullptr, decoder);
}

inline Tokenizer make_tokenizer(const Json& json, TokenizerConfig config = {}) {
  return Tokenizer::from_json(json.dump(), std::move(config), "test.json");
}

// A folder that goes away with the object.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "comet-text-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << text;
  }

 private:
  std::filesystem::path path_;
};

// What is thrown by `call`, or "" for nothing.
template <typename Call>
std::string error_of(Call&& call) {
  try {
    call();
  } catch (const InvalidInput& e) {
    return e.what();
  }
  return "";
}

}  // namespace comet
