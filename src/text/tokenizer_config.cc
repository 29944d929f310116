// SPDX-License-Identifier: Apache-2.0
// What tokenizer_config.json, special_tokens_map.json and the chat template files of a model folder say.
#include "text/tokenizer_config.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <nlohmann/json.hpp>

#include "text/crate.h"

namespace comet {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr size_t kMaxConfigBytes = size_t{16} << 20;
constexpr size_t kMaxTemplateBytes = size_t{1} << 20;
constexpr const char* kDefault = "default";

json read_json_object(const fs::path& path) {
  const std::string text = read_text_file(path, kMaxConfigBytes);
  json object;
  try {
    object = json::parse(text);
  } catch (const json::exception& e) {
    throw_invalid("{}: {}", path.string(), e.what());
  }
  if (!object.is_object()) throw_invalid("{}: not a JSON object", path.string());
  return object;
}

// Reads one file's object into a TokenizerConfig; what is there already stays.
class Reader {
 public:
  Reader(const fs::path& path, TokenizerConfig& config)
      : path_(path), object_(read_json_object(path)), config_(config) {}

  void read_tokens() {
    read_added_tokens_decoder();
    for (const auto& [key, value] : object_.items()) {
      if (key.ends_with("_token") && (value.is_string() || value.is_object())) {
        const AddedToken token = to_token(key, value);
        if (config_.special_tokens.emplace(key, token.text).second) add(token);
      } else if (is_special_name(key) && !value.is_null()) {
        fail(key, "must be a string or an object with \"content\"");
      }
    }
    // transformers 4 and 5; a list of tokens, or an object of names and tokens.
    for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
      const json& list = at(key);
      if (list.is_null()) continue;
      if (!list.is_structured()) fail(key, "must be a list or an object of tokens");
      for (const auto& [name, value] : list.items()) {
        const AddedToken token = to_token(key, value);
        if (list.is_object()) config_.special_tokens.emplace(name, token.text);
        add(token);
      }
    }
  }

  void read_settings() {
    config_.add_bos_token = to_bool("add_bos_token");
    config_.add_eos_token = to_bool("add_eos_token");
    const json& length = at("model_max_length");
    if (length.is_number_integer() && length > 0) config_.model_max_length = length.get<int64_t>();
  }

  void read_templates() {
    const json& templates = at("chat_template");
    if (templates.is_null()) return;
    if (templates.is_string()) return add_template(kDefault, "chat_template", templates);
    if (!templates.is_array()) fail("chat_template", "must be a string or a list of {\"name\", \"template\"}");
    for (const json& entry : templates) {
      if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string() || !entry.contains("template") ||
          !entry["template"].is_string()) {
        fail("chat_template", "must be a list of {\"name\", \"template\"}");
      }
      const auto name = entry["name"].get<std::string>();
      add_template(name, "chat_template \"" + name + '"', entry["template"]);
    }
  }

 private:
  static bool is_special_name(const std::string& key) {
    return key == "bos_token" || key == "eos_token" || key == "unk_token" || key == "pad_token";
  }

  [[noreturn]] void fail(const std::string& key, const char* message) const {
    throw_invalid("{}: {} {}", path_.string(), key, message);
  }

  const json& at(const char* key) const {
    static const json null;
    const auto it = object_.find(key);
    return it == object_.end() ? null : *it;
  }

  std::optional<bool> to_bool(const char* key) const {
    const json& value = at(key);
    if (value.is_null()) return std::nullopt;
    if (!value.is_boolean()) fail(key, "must be true or false");
    return value.get<bool>();
  }

  AddedToken to_token(const std::string& key, const json& value) const {
    AddedToken token;
    if (value.is_string()) {
      token.text = value.get<std::string>();
      return token;
    }
    const auto content = value.find("content");
    if (!value.is_object() || content == value.end() || !content->is_string()) {
      fail(key, "must hold strings or objects with \"content\"");
    }
    token.text = content->get<std::string>();
    for (const auto& [name, flag] : {std::pair{"special", &token.special},
                                     {"lstrip", &token.lstrip},
                                     {"rstrip", &token.rstrip},
                                     {"single_word", &token.single_word},
                                     {"normalized", &token.normalized}}) {
      const auto it = value.find(name);
      if (it == value.end()) continue;
      if (!it->is_boolean()) fail(key, "has a flag that is neither true nor false");
      *flag = it->get<bool>();
    }
    return token;
  }

  void add(const AddedToken& token) {
    const auto same = [&](const AddedToken& t) { return t.text == token.text; };
    if (!token.text.empty() && std::ranges::none_of(config_.added_tokens, same)) config_.added_tokens.push_back(token);
  }

  void read_added_tokens_decoder() {
    const char* key = "added_tokens_decoder";
    const json& decoder = at(key);
    if (decoder.is_null()) return;
    if (!decoder.is_object()) fail(key, "must be an object of ids and tokens");
    std::vector<AddedToken> tokens;
    for (const auto& [id, value] : decoder.items()) {
      AddedToken token = to_token(key, value);
      if (!value.contains("special")) token.special = false;
      int32_t number = -1;
      const auto parsed = std::from_chars(id.data(), id.data() + id.size(), number);
      if (parsed.ec != std::errc() || parsed.ptr != id.data() + id.size() || number < 0)
        fail(key, "has a key that is no token id");
      token.id = number;
      tokens.push_back(std::move(token));
    }
    std::ranges::sort(tokens, {}, &AddedToken::id);
    for (const AddedToken& token : tokens) add(token);
  }

  void add_template(const std::string& name, const std::string& place, const json& source) {
    if (source.get_ref<const std::string&>().size() > kMaxTemplateBytes) fail("chat_template", "is longer than 1 MiB");
    config_.chat_templates.emplace(name, TemplateSource{path_.string() + ": " + place, source});
  }

  fs::path path_;
  json object_;
  TokenizerConfig& config_;
};

void read_template_file(const fs::path& path, const std::string& name, TokenizerConfig& config) {
  config.chat_templates[name] = {path.string(), read_text_file(path, kMaxTemplateBytes)};
}

}  // namespace

std::string read_text_file(const fs::path& path, size_t max_bytes) {
  std::error_code error;
  if (!fs::exists(path, error)) throw_invalid("missing {}", path.string());
  if (!fs::is_regular_file(path, error)) throw_invalid("{} is not a file", path.string());
  std::ifstream file(path, std::ios::binary);
  std::string text;
  // Read up to the limit whatever the file system says of the size.
  std::string part(size_t{1} << 16, '\0');
  while (file.read(part.data(), static_cast<std::streamsize>(part.size())) || file.gcount() > 0) {
    text.append(part, 0, static_cast<size_t>(file.gcount()));
    if (text.size() > max_bytes) throw_invalid("{} is larger than {} bytes", path.string(), max_bytes);
  }
  if (file.bad() || !file.eof()) throw_invalid("cannot read {}", path.string());
  return text;
}

TokenizerConfig TokenizerConfig::load(const fs::path& folder) {
  TokenizerConfig config;
  config.folder = folder;
  std::error_code error;
  if (const fs::path path = folder / "tokenizer_config.json"; fs::exists(path, error)) {
    Reader reader(path, config);
    reader.read_tokens();
    reader.read_settings();
    reader.read_templates();
  }
  if (const fs::path path = folder / "special_tokens_map.json"; fs::exists(path, error))
    Reader(path, config).read_tokens();
  // As in transformers, a template file beats tokenizer_config.json.
  if (const fs::path path = folder / "chat_template.jinja"; fs::exists(path, error))
    read_template_file(path, kDefault, config);
  for (const auto& entry : fs::directory_iterator(folder / "additional_chat_templates", error)) {
    if (entry.path().extension() == ".jinja") read_template_file(entry.path(), entry.path().stem().string(), config);
  }
  return config;
}

}  // namespace comet
