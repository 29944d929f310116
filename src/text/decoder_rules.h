// SPDX-License-Identifier: Apache-2.0
// What a token stands for, from the "decoder" section of tokenizer.json.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace comet {

// How the texts of single tokens make up the text of all.
enum class JoinRule : uint8_t {
  bytes,         // their bytes in a row (byte-level BPE, Gemma)
  drop_leading,  // the same, but the first token loses the space it begins with (Llama 2)
  window,        // anything else: only the decoder itself knows
};

struct DecoderRules {
  JoinRule join = JoinRule::window;
  bool byte_level = false;     // each character of a token is a byte, in GPT-2's alphabet
  bool byte_fallback = false;  // "<0x0A>" is a byte
  std::vector<std::pair<std::string, std::string>> replacements;  // in order: what, by what

  // `decoder` null: the file has none. What is not known for certain to fit the first two rules is JoinRule::window.
  static DecoderRules from_json(const nlohmann::json& decoder);

  // The bytes of a token inside a text. Only where join is not JoinRule::window. Throws InvalidInput where replacements
  // blow a token up.
  std::string bytes(std::string_view token) const;
};

}  // namespace comet
