// SPDX-License-Identifier: Apache-2.0
// What tokenizer_config.json, special_tokens_map.json and chat_template.jinja of a model folder say.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace comet {

// A token that is matched as a whole in the text, never cut or merged.
struct AddedToken {
  std::string text;
  std::optional<int32_t> id;  // none: looked up by its text
  bool special = true;        // left out by decode(skip_special = true)
  bool lstrip = false, rstrip = false, single_word = false, normalized = false;
};

struct TokenizerConfig {
  // "bos_token", "eos_token", "pad_token" ... -> text; what chat templates see as variables.
  std::map<std::string, std::string> special_tokens;
  std::vector<AddedToken> added_tokens;                // ascending by id, those without id last
  std::map<std::string, std::string> chat_templates;   // name -> Jinja source; the unnamed one is "default"
  std::map<std::string, std::string> template_files;   // name -> file it came from, for messages
  std::optional<bool> add_bos_token, add_eos_token;    // overrule tokenizer.json where given
  std::optional<int64_t> model_max_length;             // none where the file has transformers' "no limit" (1e30)

  // Reads the files of `folder` (transformers 4 and 5 spellings); a file that is absent leaves its part empty, so that a
  // folder with tokenizer.json alone works. Throws InvalidInput that names the file and the key.
  static TokenizerConfig load(const std::filesystem::path& folder);
};

}  // namespace comet
