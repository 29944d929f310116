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

#include "text/decoder_rules.h"
#include "text/tokenizer_config.h"

struct CometTextTokenizer;  // the Rust tokenizer

namespace comet {

// Immutable after load; every const function may be called from any thread.
class Tokenizer {
 public:
  static constexpr size_t kMaxTextBytes = size_t{64} << 20;  // of one encode()

  static constexpr size_t kMaxFileBytes = size_t{256} << 20;

  // Reads tokenizer.json, and what TokenizerConfig::load finds beside it. Throws InvalidInput that names the file:
  // missing, no JSON, not a tokenizer.
  static Tokenizer load(const std::filesystem::path& folder);

  // `tokenizer_json`: the contents of a tokenizer.json; `source` names it in messages.
  static Tokenizer from_json(std::string_view tokenizer_json, TokenizerConfig config = {},
                             const std::string& source = "tokenizer.json");

  // add_special: also what the model expects around a text (BOS for Llama); false for chat templates, which write it
  // themselves. Special tokens spelled out in the text become their ids either way. Invalid UTF-8 is read as U+FFFD.
  // Throws InvalidInput for more than kMaxTextBytes.
  std::vector<int32_t> encode(std::string_view text, bool add_special = true) const;

  // The text of `ids`, valid UTF-8. skip_special leaves special tokens out. Throws InvalidInput for an id that is no
  // token.
  std::string decode(std::span<const int32_t> ids, bool skip_special = true) const;

  // Ids run from 0 to num_ids() - 1; a few of them may be no token (has_id false). May differ from the model's
  // vocab_size, which is often padded.
  int32_t num_ids() const { return static_cast<int32_t>(tokens_.size()); }
  bool has_id(int64_t id) const;

  // As spelled in the vocabulary ("Ġthe", "▁the", "<0x0A>").  Throws InvalidInput for an id that is no token.
  const std::string& token(int32_t id) const;
  // What the token stands for inside a text (" the", "\n"); may be part of a UTF-8 character. With JoinRule::window
  // what decode() says of it alone. Throws InvalidInput for an id that is no token.
  std::string token_bytes(int32_t id) const;
  std::optional<int32_t> token_id(std::string_view token) const;

  bool is_special(int32_t id) const;                                        // false for an id that is no token
  const std::vector<int32_t>& special_ids() const { return special_ids_; }  // ascending
  const std::vector<int32_t>& added_ids() const { return added_ids_; }      // special or not, ascending
  std::optional<int32_t> bos_id() const { return bos_id_; }
  std::optional<int32_t> eos_id() const { return eos_id_; }  // generation_config.json may know more of them

  bool has_chat_template() const { return !config_.chat_templates.empty(); }
  const TokenizerConfig& config() const { return config_; }
  const DecoderRules& decoder_rules() const { return decoder_rules_; }

 private:
  struct Token {
    std::string text;
    bool exists = false, added = false, special = false;
  };

  // What to change in the ids that tokenizer.json's post-processor gives; see TokenizerConfig::add_bos_token.
  enum class Fix : uint8_t { none, add, drop };

  Tokenizer() = default;
  void read_table(std::string_view table, const std::string& source);
  void find_special_tokens(const std::string& source);
  std::vector<int32_t> encode_raw(std::string_view text, bool add_special) const;
  const Token& checked_token(int64_t id) const;

  std::shared_ptr<const CometTextTokenizer> handle_;
  TokenizerConfig config_;
  std::vector<Token> tokens_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<int32_t> special_ids_, added_ids_;
  std::optional<int32_t> bos_id_, eos_id_;
  DecoderRules decoder_rules_;
  Fix bos_fix_ = Fix::none, eos_fix_ = Fix::none;
};

}  // namespace comet
