// SPDX-License-Identifier: Apache-2.0
// Small tokenizers made up for the tests.
#include "text/fixtures.h"

#include <fmt/format.h>

namespace comet {

std::string utf8(char32_t c) {
  std::string s;
  const auto put = [&](char32_t byte) { s.push_back(static_cast<char>(byte)); };
  if (c < 0x80) return put(c), s;
  if (c < 0x800) return put(0xC0 | c >> 6), put(0x80 | (c & 63)), s;
  if (c < 0x10000) return put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 63)), put(0x80 | (c & 63)), s;
  return put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 63)), put(0x80 | (c >> 6 & 63)), put(0x80 | (c & 63)), s;
}

namespace {

void add_token(Json& json, int id, const std::string& content, bool special = true) {
  Json token = Json::parse(R"({"single_word": false, "lstrip": false, "rstrip": false, "normalized": false})");
  token["id"] = id;
  token["content"] = content;
  token["special"] = special;
  json["added_tokens"].push_back(token);
}

}  // namespace

Json byte_level_json() {
  Json json = Json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "post_processor": null,
    "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "model": {"type": "BPE", "vocab": {}, "merges": []}})");
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    json["model"]["vocab"][utf8(printable ? static_cast<char32_t>(byte) : next++)] = byte;
  }
  add_token(json, 256, "<|begin|>");
  add_token(json, 257, "<|end|>");
  add_token(json, 258, "<tool>", /*special=*/false);
  return json;
}

Json byte_fallback_json() {
  Json json = Json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": {"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "pre_tokenizer": null,
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2}, "merges": ["▁ ▁", "a b", "▁ ab", "▁ a"],
      "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true}})");
  Json& vocab = json["model"]["vocab"];
  for (int byte = 0; byte < 256; ++byte) vocab[fmt::format("<0x{:02X}>", byte)] = 3 + byte;
  for (const char* piece : {"▁", "a", "b", "c", "é", "▁a", "▁▁", "ab", "▁ab"}) vocab[piece] = vocab.size();
  add_token(json, 0, "<unk>");
  add_token(json, 1, "<s>");
  add_token(json, 2, "</s>");
  return json;
}

Json words_json(const std::vector<std::string>& words, const std::string& decoder) {
  Json json = Json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
    "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null,
    "model": {"type": "WordLevel", "vocab": {}, "unk_token": ""}})");
  Json& model = json["model"];
  for (const std::string& word : words) model["vocab"][word] = model["vocab"].size();
  model["unk_token"] = words.front();
  add_token(json, static_cast<int>(words.size()), "[END]");
  json["decoder"] = Json::parse(decoder);
  return json;
}

Tokenizer make_tokenizer(const Json& json, TokenizerConfig config) {
  return Tokenizer::from_json(json.dump(), std::move(config), "test.json");
}

}  // namespace comet
