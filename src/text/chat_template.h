// SPDX-License-Identifier: Apache-2.0
// Chat messages to the prompt text a model was trained on, by the model's Jinja template, rendered as transformers
// does.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "text/tokenizer_config.h"

namespace comet {

// Immutable; render() may be called from any thread. A template is untrusted: its steps, time, memory and output are
// limited.
class ChatTemplate {
 public:
  static constexpr size_t kMaxTemplateBytes = size_t{1} << 20;
  static constexpr size_t kMaxContextBytes = size_t{16} << 20;  // messages and other variables, as JSON
  static constexpr size_t kMaxOutputBytes = size_t{32} << 20;
  static constexpr int kMaxDepth = 100;  // of messages and other variables

  // The model's own template(s). Throws InvalidInput when there are none (the message names --chat-template) or one of
  // them does not parse (the message names template and line).
  explicit ChatTemplate(const TokenizerConfig& config);

  // A template file instead of the model's own; the special tokens still come from `config`.
  ChatTemplate(const TokenizerConfig& config, const std::filesystem::path& file);

  // messages: array of {"role": .., "content": .., ..}. `variables` is an object of further variables: "tools" and
  // "documents" (none where absent), "enable_thinking" ...; of several templates "tool_use" is taken when there are
  // tools, else "default". Keys keep their order (nlohmann::json sorts them: parse what a client sent into
  // ordered_json). Throws InvalidInput that names template and line, also when the template itself refuses
  // (raise_exception).
  std::string render(const nlohmann::ordered_json& messages, bool add_generation_prompt,
                     const nlohmann::ordered_json& variables) const;
  std::string render(const nlohmann::ordered_json& messages, bool add_generation_prompt) const;

  // The source that render() uses.
  const std::string& source(bool has_tools = false) const { return select(has_tools).source; }

 private:
  void add(const std::string& key, const TemplateSource& source);
  const TemplateSource& select(bool has_tools) const;

  std::map<std::string, std::string> special_tokens_;
  std::map<std::string, TemplateSource> templates_;
};

}  // namespace comet
