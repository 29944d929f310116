// SPDX-License-Identifier: Apache-2.0
// What tokenizer_config.json, special_tokens_map.json and the chat template files of a model folder say.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace comet {

// A token that is matched as a whole in the text, never cut or merged.
struct AddedToken {
  std::string text;
  std::optional<int32_t> id;  // where the file gives one; tokenizer.json must agree
  bool special = true;        // left out by decode(skip_special = true)
  bool lstrip = false, rstrip = false, single_word = false, normalized = false;
};

struct TemplateSource {
  std::string name;    // as messages call it: file, and which of its templates
  std::string source;  // Jinja
};

struct TokenizerConfig {
  std::map<std::string, std::string> special_tokens;     // "bos_token", "eos_token", "pad_token" ... -> text
  std::vector<AddedToken> added_tokens;                  // those with id first, ascending
  std::map<std::string, TemplateSource> chat_templates;  // "default", "tool_use" ...
  std::optional<bool> add_bos_token, add_eos_token;      // overrule tokenizer.json where given
  std::optional<int64_t> model_max_length;               // none where the file has transformers' "no limit"
  std::filesystem::path folder;                          // for messages

  // Reads the files (transformers 4 and 5 spellings); what is absent stays empty, so that a folder with tokenizer.json
  // alone works. Throws InvalidInput that names the file and the key.
  static TokenizerConfig load(const std::filesystem::path& folder);
};

}  // namespace comet
