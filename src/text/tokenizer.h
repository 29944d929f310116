// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back, as the model's own tokenizer.json says (Hugging Face format).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/tokenizer_config.h"

namespace comet {

// How the tokenizer's decoder joins tokens; see detokenizer.h.
enum class JoinRule : uint8_t {
  bytes,          // the text is the bytes of the tokens in a row (byte-level BPE)
  leading_space,  // the same, less one space at the very start (Llama 2)
  window,         // anything else: only decode() knows
};

// Immutable after load; every const function may be called from any thread.
class Tokenizer {
 public:
  static constexpr size_t kMaxTextBytes = size_t{64} << 20;  // of one encode()

  // Reads tokenizer.json, and what TokenizerConfig::load finds beside it. Throws InvalidInput that names the file: missing,
  // no JSON, not a tokenizer.
  static Tokenizer load(const std::filesystem::path& folder);

  // `tokenizer_json`: the contents of a tokenizer.json. `source` names it in error messages.
  static Tokenizer from_json(std::string_view tokenizer_json, TokenizerConfig config = {},
                             const std::string& source = "tokenizer.json");

  // add_special: also what the model expects around a text (BOS for Llama); false for chat templates, which write it
  // themselves. Special tokens spelled out in the text become their ids either way. Invalid UTF-8 is read as U+FFFD.
  // Throws InvalidInput for more than kMaxTextBytes.
  std::vector<int32_t> encode(std::string_view text, bool add_special = true) const;

  // The text of `ids`, valid UTF-8. skip_special leaves special tokens out. Throws InvalidInput for an id that is no token.
  std::string decode(std::span<const int32_t> ids, bool skip_special = true) const;

  // Ids run from 0 to num_ids() - 1; a few of them may be no token (has_id false). May differ from the model's vocab_size,
  // which is often padded.
  int32_t num_ids() const { return static_cast<int32_t>(tokens_.size()); }
  bool has_id(int64_t id) const;

  // As spelled in the vocabulary ("Ġthe", "▁the", "<0x0A>").  Throws InvalidInput for an id that is no token.
  const std::string& token(int32_t id) const;
  // What the token stands for inside a text (" the", "\n"); may be part of a UTF-8 character. With JoinRule::window the best
  // that can be said of a token alone. Throws InvalidInput for an id that is no token.
  std::string token_bytes(int32_t id) const;
  std::optional<int32_t> token_id(std::string_view token) const;

  bool is_special(int32_t id) const;                                 // false for an id that is no token
  const std::vector<int32_t>& special_ids() const { return special_ids_; }  // ascending
  const std::vector<int32_t>& added_ids() const { return added_ids_; }      // special or not, ascending
  std::optional<int32_t> bos_id() const { return bos_id_; }
  std::optional<int32_t> eos_id() const { return eos_id_; }          // generation_config.json may know more of them

  bool has_chat_template() const { return !config_.chat_templates.empty(); }
  const TokenizerConfig& config() const { return config_; }
  JoinRule join_rule() const { return join_rule_; }

 private:
  struct Handle;  // owns the Rust tokenizer
  struct Token {
    std::string text;
    bool exists = false, added = false, special = false;
  };

  Tokenizer();
  const Token& checked_token(int64_t id) const;

  std::shared_ptr<const Handle> handle_;
  TokenizerConfig config_;
  std::vector<Token> tokens_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<int32_t> special_ids_, added_ids_;
  std::optional<int32_t> bos_id_, eos_id_;
  JoinRule join_rule_ = JoinRule::window;
};

}  // namespace comet
