// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back, as the model's own tokenizer.json says (Hugging Face format).
#include "text/tokenizer.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "text/crate.h"
#include "text/utf8.h"

namespace comet {
namespace {

using nlohmann::json;

constexpr int64_t kMaxId = int64_t{1} << 22;  // more than any model has; bounds the table that is indexed by id

// Takes integers and byte strings off the front of the crate's token table.
class TableReader {
 public:
  explicit TableReader(std::string_view table) : rest_(table) {}
  bool done() const { return rest_.empty(); }

  uint32_t integer() {
    uint32_t x;
    std::memcpy(&x, take(sizeof x).data(), sizeof x);
    return x;
  }
  std::string_view bytes() { return take(integer()); }

 private:
  std::string_view take(size_t size) {
    COMET_CHECK(size <= rest_.size(), "token table ends early");
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  std::string_view rest_;
};

std::string added_tokens_json(const std::vector<AddedToken>& tokens) {
  json list = json::array();
  for (const AddedToken& t : tokens) {
    list.push_back({{"content", t.text},
                    {"special", t.special},
                    {"lstrip", t.lstrip},
                    {"rstrip", t.rstrip},
                    {"single_word", t.single_word},
                    {"normalized", t.normalized}});
  }
  return list.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

Tokenizer Tokenizer::load(const std::filesystem::path& folder) {
  const auto path = folder / "tokenizer.json";
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) throw_invalid("no folder {}", folder.string());
  if (!std::filesystem::exists(path, error)) {
    throw_invalid(
        "missing tokenizer.json in {}; a model that has only tokenizer.model can be converted with transformers: "
        "AutoTokenizer.from_pretrained(..).save_pretrained(..)",
        folder.string());
  }
  return from_json(read_text_file(path, kMaxFileBytes), TokenizerConfig::load(folder), path.string());
}

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json, TokenizerConfig config, const std::string& source) {
  if (tokenizer_json.size() > kMaxFileBytes) throw_invalid("{} is larger than {} bytes", source, kMaxFileBytes);
  Tokenizer t;
  t.config_ = std::move(config);
  const std::string added = added_tokens_json(t.config_.added_tokens);
  CometTextTokenizer* handle = nullptr;
  const std::string table = call_crate(source + ": not a tokenizer: ", [&](CometTextBuffer* answer) {
    return comet_text_create(as_view(tokenizer_json), as_view(added), &handle, answer);
  });
  t.handle_ = {handle, comet_text_destroy};
  t.read_table(table, source);
  t.find_special_tokens(source);
  return t;
}

void Tokenizer::read_table(std::string_view table, const std::string& source) {
  TableReader reader(table);
  decoder_rules_ = DecoderRules::from_json(json::parse(reader.bytes()));
  while (!reader.done()) {
    const uint32_t id = reader.integer(), flags = reader.integer();
    const std::string_view text = reader.bytes();
    if (id >= kMaxId)
      throw_invalid("{}: token \"{}\" has the id {}, more than {}", source, to_valid_utf8(text), id, kMaxId);
    if (id >= tokens_.size()) tokens_.resize(id + 1);
    tokens_[id] = {.text = std::string(text), .exists = true, .added = (flags & 1) != 0, .special = (flags & 2) != 0};
    ids_.emplace(text, static_cast<int32_t>(id));
  }
  for (int32_t id = 0; id < num_ids(); ++id) {
    if (tokens_[static_cast<size_t>(id)].special) special_ids_.push_back(id);
    if (tokens_[static_cast<size_t>(id)].added) added_ids_.push_back(id);
  }
}

void Tokenizer::find_special_tokens(const std::string& source) {
  for (const AddedToken& token : config_.added_tokens) {
    const auto id = token_id(token.text);
    if (token.id && id != token.id) {
      throw_invalid("{}: token \"{}\" has the id {}, but {} in tokenizer_config.json", source, token.text,
                    id.value_or(-1), *token.id);
    }
  }
  const auto named = [&](const char* name) -> std::optional<int32_t> {
    const auto it = config_.special_tokens.find(name);
    return it == config_.special_tokens.end() ? std::nullopt : token_id(it->second);
  };
  bos_id_ = named("bos_token");
  eos_id_ = named("eos_token");
  if (!config_.add_bos_token && !config_.add_eos_token) return;
  const std::vector<int32_t> ids = encode_raw("a", true);
  const auto fix = [&](std::optional<bool> wanted, std::optional<int32_t> id, bool have) {
    return !wanted || !id || *wanted == have ? Fix::none : *wanted ? Fix::add : Fix::drop;
  };
  bos_fix_ = fix(config_.add_bos_token, bos_id_, !ids.empty() && ids.front() == bos_id_);
  eos_fix_ = fix(config_.add_eos_token, eos_id_, !ids.empty() && ids.back() == eos_id_);
}

std::vector<int32_t> Tokenizer::encode_raw(std::string_view text, bool add_special) const {
  if (text.size() > kMaxTextBytes)
    throw_invalid("a text of {} bytes is too long to tokenize; the limit is {}", text.size(), kMaxTextBytes);
  const std::string bytes = call_crate("tokenizer: ", [&](CometTextBuffer* answer) {
    return comet_text_encode(handle_.get(), as_view(text), add_special, answer);
  });
  std::vector<int32_t> ids(bytes.size() / sizeof(int32_t));
  if (!ids.empty()) std::memcpy(ids.data(), bytes.data(), ids.size() * sizeof(int32_t));
  return ids;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special) const {
  std::vector<int32_t> ids = encode_raw(text, add_special);
  if (!add_special) return ids;
  if (bos_fix_ == Fix::add) ids.insert(ids.begin(), *bos_id_);
  if (bos_fix_ == Fix::drop && !ids.empty() && ids.front() == *bos_id_) ids.erase(ids.begin());
  if (eos_fix_ == Fix::add) ids.push_back(*eos_id_);
  if (eos_fix_ == Fix::drop && !ids.empty() && ids.back() == *eos_id_) ids.pop_back();
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  for (int32_t id : ids) checked_token(id);
  const std::string_view bytes(reinterpret_cast<const char*>(ids.data()), ids.size_bytes());
  return call_crate("tokenizer: ", [&](CometTextBuffer* answer) {
    return comet_text_decode(handle_.get(), as_view(bytes), skip_special, answer);
  });
}

bool Tokenizer::has_id(int64_t id) const {
  return id >= 0 && id < num_ids() && tokens_[static_cast<size_t>(id)].exists;
}

const Tokenizer::Token& Tokenizer::checked_token(int64_t id) const {
  if (!has_id(id)) throw_invalid("token id {} is not in the tokenizer, whose ids are below {}", id, num_ids());
  return tokens_[static_cast<size_t>(id)];
}

const std::string& Tokenizer::token(int32_t id) const { return checked_token(id).text; }

std::string Tokenizer::token_bytes(int32_t id) const {
  const Token& token = checked_token(id);
  if (decoder_rules_.join == JoinRule::window) return decode(std::span(&id, 1), false);
  return decoder_rules_.bytes(token.text);
}

std::optional<int32_t> Tokenizer::token_id(std::string_view token) const {
  const auto it = ids_.find(std::string(token));
  return it == ids_.end() ? std::nullopt : std::optional(it->second);
}

bool Tokenizer::is_special(int32_t id) const { return has_id(id) && tokens_[static_cast<size_t>(id)].special; }

}  // namespace comet
