// SPDX-License-Identifier: Apache-2.0
// What a token stands for, from the "decoder" section of tokenizer.json.
#include "text/decoder_rules.h"

#include <array>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/check.h"

namespace comet {
namespace {

using nlohmann::json;

constexpr size_t kMaxSteps = 16;
constexpr size_t kMaxTokenBytes = 1 << 16;

std::string string_at(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

// The steps of a decoder; none where it is not understood (a sequence in a sequence is left as one step).
std::vector<const json*> steps_of(const json& decoder) {
  if (string_at(decoder, "type") != "Sequence") return {&decoder};
  std::vector<const json*> steps;
  const auto list = decoder.find("decoders");
  if (list == decoder.end() || !list->is_array()) return {};
  for (const json& step : *list) {
    if (!step.is_object()) return {};
    steps.push_back(&step);
  }
  return steps;
}

// GPT-2 writes printable Latin-1 bytes as themselves and the others as the characters from U+0100 on.
constexpr int kAlphabetSize = 0x100 + 68;

const std::array<int16_t, kAlphabetSize>& byte_of_character() {
  static const auto table = [] {
    std::array<int16_t, kAlphabetSize> t;
    t.fill(-1);
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
      t[static_cast<size_t>(printable ? byte : next++)] = static_cast<int16_t>(byte);
    }
    return t;
  }();
  return table;
}

// The bytes behind a byte-level token; a token that is not in the alphabet (an added one) stands for itself.
std::string byte_level_bytes(std::string_view token) {
  std::string out;
  for (size_t i = 0; i < token.size(); ++i) {
    unsigned character = static_cast<uint8_t>(token[i]);
    if (character >= 0x80) {
      if (character < 0xC2 || character > 0xC5 || i + 1 == token.size()) return std::string(token);
      character = (character & 0x1Fu) << 6 | (static_cast<uint8_t>(token[++i]) & 0x3Fu);
    }
    const int byte = character < kAlphabetSize ? byte_of_character()[character] : -1;
    if (byte < 0) return std::string(token);
    out.push_back(static_cast<char>(byte));
  }
  return out;
}

std::optional<char> fallback_byte(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token.back() != '>') return std::nullopt;
  int byte = 0;
  for (char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    byte = byte * 16 + digit;
  }
  return static_cast<char>(byte);
}

std::string replace_all(std::string_view text, std::string_view what, std::string_view by) {
  std::string out;
  for (size_t at; (at = text.find(what)) != text.npos; text.remove_prefix(at + what.size())) {
    out.append(text.substr(0, at)).append(by);
    if (out.size() > kMaxTokenBytes)
      throw_invalid("the decoder in tokenizer.json makes a token longer than {} bytes", kMaxTokenBytes);
  }
  return out.append(text);
}

}  // namespace

DecoderRules DecoderRules::from_json(const json& decoder) {
  DecoderRules rules;
  if (!decoder.is_object()) return rules;
  const std::vector<const json*> steps = steps_of(decoder);
  if (steps.empty() || steps.size() > kMaxSteps) return rules;
  JoinRule join = JoinRule::bytes;
  bool fused = false;
  for (const json* step : steps) {
    const std::string type = string_at(*step, "type");
    if (type == "ByteLevel" && steps.size() == 1) {
      rules.byte_level = true;
    } else if (type == "Metaspace" && steps.size() == 1 && !string_at(*step, "replacement").empty()) {
      rules.replacements.emplace_back(string_at(*step, "replacement"), " ");
      if (string_at(*step, "prepend_scheme") != "never") join = JoinRule::drop_leading;
    } else if (type == "Replace" && !fused && !rules.byte_fallback) {
      const auto pattern = step->find("pattern");
      const std::string what = pattern != step->end() && pattern->is_object() ? string_at(*pattern, "String") : "";
      if (what.empty()) return {};
      rules.replacements.emplace_back(what, string_at(*step, "content"));
    } else if (type == "ByteFallback" && !fused) {
      rules.byte_fallback = true;
    } else if (type == "Fuse") {
      fused = true;
    } else if (type == "Strip" && fused && join == JoinRule::bytes && string_at(*step, "content") == " " &&
               step->value("start", json()) == 1 && step->value("stop", json()) == 0) {
      join = JoinRule::drop_leading;
    } else {
      return {};
    }
  }
  rules.join = join;
  return rules;
}

std::string DecoderRules::bytes(std::string_view token) const {
  if (byte_level) return byte_level_bytes(token);
  std::string text(token);
  for (const auto& [what, by] : replacements) text = replace_all(text, what, by);
  if (byte_fallback) {
    if (const auto byte = fallback_byte(text)) return std::string(1, *byte);
  }
  return text;
}

}  // namespace comet
