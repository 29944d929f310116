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

// The character's bytes.
std::string utf8(char32_t c);

// Byte-level BPE without merges: the id of a byte is the byte. 256 <|begin|>, 257 <|end|> special, 258 <tool> not.
Json byte_level_json();

// As Llama 2: 0 <unk>, 1 <s>, 2 </s>, 3 + byte for bytes, then pieces; BOS in front.
Json byte_fallback_json();

// Words in a vocabulary, a special [END] after them, and any decoder (as JSON): for those that need the window.
Json words_json(const std::vector<std::string>& words, const std::string& decoder);

Tokenizer make_tokenizer(const Json& json, TokenizerConfig config = {});

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
