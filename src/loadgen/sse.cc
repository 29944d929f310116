// SPDX-License-Identifier: Apache-2.0
#include "loadgen/sse.h"

#include <nlohmann/json.hpp>

#include "base/check.h"

namespace comet::loadgen {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxEvent = 16 << 20;

const Json* find(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

bool has_text(const Json& object, const char* name) {
  const Json* text = find(object, name);
  return text != nullptr && text->is_string() && !text->get_ref<const std::string&>().empty();
}

int number(const Json& object, const char* name) {
  const Json* value = find(object, name);
  return value != nullptr && value->is_number_integer() ? value->get<int>() : 0;
}

std::string text_of(const Json& object, const char* name) {
  const Json* value = find(object, name);
  if (value == nullptr) return "";
  return value->is_string() ? value->get<std::string>() : value->dump(-1, ' ', false, Json::error_handler_t::replace);
}

ErrorText error_of(const Json& json) {
  const Json* error = find(json, "error");
  if (error == nullptr) return {.kind = "", .message = text_of(json, find(json, "message") ? "message" : "detail")};
  if (!error->is_object()) return {.kind = "", .message = text_of(json, "error")};
  std::string kind = text_of(*error, "code");
  if (kind.empty()) kind = text_of(*error, "type");
  return {.kind = std::move(kind), .message = text_of(*error, "message")};
}

void take_choice(const Json& choice, Chunk& chunk) {
  if (has_text(choice, "text")) chunk.has_text = true;
  if (const Json* delta = find(choice, "delta"))
    for (const char* name : {"content", "reasoning_content", "reasoning"})
      if (has_text(*delta, name)) chunk.has_text = true;
  if (find(choice, "finish_reason") != nullptr) chunk.is_finished = true;
}

}  // namespace

void SseParser::check_room(size_t more) const {
  if (line_.size() + data_.size() + more > kMaxEvent) throw_invalid("an event of more than {} bytes", kMaxEvent);
}

bool SseParser::take_line(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.empty()) return has_data_;
  if (line.starts_with("data:")) {
    line.remove_prefix(5);
    if (line.starts_with(' ')) line.remove_prefix(1);
    if (has_data_) data_ += '\n';
    data_ += line;
    has_data_ = true;
  }
  return false;
}

std::optional<Chunk> parse_chunk(std::string_view data) {
  const Json json = Json::parse(data, nullptr, false);
  if (!json.is_object()) return {};
  Chunk chunk;
  if (find(json, "error") != nullptr) {
    ErrorText error = error_of(json);
    chunk.error_kind = error.kind.empty() ? "error" : std::move(error.kind);
    chunk.error_message = std::move(error.message);
  }
  if (const Json* choices = find(json, "choices"); choices != nullptr && choices->is_array())
    for (const Json& choice : *choices) take_choice(choice, chunk);
  if (const Json* usage = find(json, "usage")) {
    chunk.has_usage = true;
    chunk.prompt_tokens = number(*usage, "prompt_tokens");
    chunk.completion_tokens = number(*usage, "completion_tokens");
    if (const Json* details = find(*usage, "prompt_tokens_details"))
      chunk.cached_tokens = number(*details, "cached_tokens");
  }
  return chunk;
}

ErrorText parse_error(std::string_view body) {
  constexpr size_t kShown = 200;
  const Json json = Json::parse(body, nullptr, false);
  ErrorText error;
  if (json.is_object()) error = error_of(json);
  if (error.message.empty()) error.message = std::string(body.substr(0, kShown));
  return error;
}

}  // namespace comet::loadgen
