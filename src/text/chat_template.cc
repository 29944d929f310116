// SPDX-License-Identifier: Apache-2.0
// Chat messages to the prompt text a model was trained on, by the model's Jinja template, rendered as transformers
// does.
#include "text/chat_template.h"

#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "text/crate.h"

namespace comet {
namespace {

using Json = nlohmann::ordered_json;

extern "C" size_t comet_text_clock(const char* format, char* out, size_t capacity) {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  if (localtime_r(&now, &local) == nullptr) return 0;
  return std::strftime(out, capacity, format, &local);
}

// `{% generation %}` marks what an assistant said, for training: here a block that is always entered.
std::string replace_generation_tags(std::string_view source) {
  std::string out;
  for (size_t start; (start = source.find("{%")) != source.npos;) {
    const size_t end = source.find("%}", start);
    if (end == source.npos) break;
    std::string_view tag = source.substr(start, end - start);
    const size_t word = tag.find_first_not_of(" \t\n\r{%-+"), word_end = tag.find_last_not_of(" \t\n\r-+") + 1;
    const std::string_view name = word < word_end ? tag.substr(word, word_end - word) : std::string_view();
    out += source.substr(0, start);
    if (name == "generation" || name == "endgeneration") {
      out.append(tag.substr(0, word)).append(name == "generation" ? "if true" : "endif").append(tag.substr(word_end));
    } else {
      out += tag;
    }
    out += "%}";
    source.remove_prefix(end + 2);
  }
  return out.append(source);
}

std::string run(const TemplateSource& source, std::string_view context) {
  return call_crate("chat template " + source.name + ": ", [&](CometTextBuffer* answer) {
    return comet_text_render(as_view(source.source), as_view(context), comet_text_clock, ChatTemplate::kMaxOutputBytes,
                             answer);
  });
}

// Without recursion: what comes in may be nested without end, and dump() is recursive.
void check_depth(const Json& value, const char* what) {
  std::vector<std::pair<const Json*, int>> open = {{&value, 0}};
  while (!open.empty()) {
    const auto [node, depth] = open.back();
    open.pop_back();
    if (depth > ChatTemplate::kMaxDepth)
      throw_invalid("{} are nested deeper than {} levels", what, ChatTemplate::kMaxDepth);
    if (!node->is_structured()) continue;
    for (const Json& item : *node) open.emplace_back(&item, depth + 1);
  }
}

std::string dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

ChatTemplate::ChatTemplate(const TokenizerConfig& config) : special_tokens_(config.special_tokens) {
  if (config.chat_templates.empty()) {
    throw_invalid(
        "the model in {} has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); "
        "name one with --chat-template FILE",
        config.folder.string());
  }
  for (const auto& [key, source] : config.chat_templates) add(key, source);
}

ChatTemplate::ChatTemplate(const TokenizerConfig& config, const std::filesystem::path& file)
    : special_tokens_(config.special_tokens) {
  add("default", {file.string(), read_text_file(file, kMaxTemplateBytes)});
}

void ChatTemplate::add(const std::string& key, const TemplateSource& source) {
  if (source.source.size() > kMaxTemplateBytes)
    throw_invalid("{} is longer than {} bytes", source.name, kMaxTemplateBytes);
  const TemplateSource ready = {source.name, replace_generation_tags(source.source)};
  run(ready, "");
  templates_[key] = ready;
}

const TemplateSource& ChatTemplate::select(bool has_tools) const {
  if (has_tools && templates_.contains("tool_use")) return templates_.at("tool_use");
  if (const auto it = templates_.find("default"); it != templates_.end()) return it->second;
  std::string names;
  for (const auto& [key, source] : templates_) names += (names.empty() ? "" : ", ") + key;
  throw_invalid("none of the chat templates ({}) is called default; name one with --chat-template FILE", names);
}

std::string ChatTemplate::render(const Json& messages, bool add_generation_prompt) const {
  return render(messages, add_generation_prompt, Json::object());
}

std::string ChatTemplate::render(const Json& messages, bool add_generation_prompt, const Json& variables) const {
  if (!messages.is_array()) throw_invalid("messages must be an array");
  if (!variables.is_object()) throw_invalid("template variables must be an object");
  check_depth(messages, "messages");
  check_depth(variables, "template variables");

  // Later keys win, as the crate reads them.
  std::string context = R"({"tools":null,"documents":null)";
  const auto add = [&](const std::string& key, const Json& value) {
    context.append(",").append(dump(key)).append(":").append(dump(value));
    if (context.size() > kMaxContextBytes) throw_invalid("the messages are larger than {} bytes", kMaxContextBytes);
  };
  for (const auto& [key, text] : special_tokens_) add(key, text);
  for (const auto& [key, value] : variables.items()) add(key, value);
  add("messages", messages);
  add("add_generation_prompt", add_generation_prompt);
  context += '}';
  const auto tools = variables.find("tools");
  return run(select(tools != variables.end() && !tools->is_null()), context);
}

}  // namespace comet
