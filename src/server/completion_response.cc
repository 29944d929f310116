// SPDX-License-Identifier: Apache-2.0
#include "server/completion_response.h"

#include <algorithm>

#include "text/utf8.h"

namespace comet::server {
namespace {

int num_characters(const std::string& text) {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

Json bytes_of(const std::string& text) {
  Json bytes = Json::array();
  for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

Json or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

}  // namespace

Json to_json(const Usage& usage) {
  return {{"prompt_tokens", usage.num_prompt},
          {"completion_tokens", usage.num_output},
          {"total_tokens", usage.num_prompt + usage.num_output},
          {"prompt_tokens_details", {{"cached_tokens", usage.num_cached}}}};
}

std::string sse_event(const Json& json) { return "data: " + dump(json) + "\n\n"; }

CompletionResponse::CompletionResponse(const CompletionRequest& request, const Tokenizer& tokenizer, std::string id,
                                       std::string model, int64_t created)
    : endpoint_(request.endpoint),
      wants_logprobs_(request.wants_logprobs()),
      continuous_usage_(request.continuous_usage),
      tokenizer_(&tokenizer),
      id_(std::move(id)),
      model_(std::move(model)),
      created_(created) {}

CompletionResponse::Choice& CompletionResponse::choice(int index) {
  if (choices_.size() <= static_cast<size_t>(index)) choices_.resize(static_cast<size_t>(index) + 1);
  return choices_[static_cast<size_t>(index)];
}

void CompletionResponse::begin_with(int index, const std::string& prompt) {
  Choice& c = choice(index);
  c.text = prompt;
  c.next_offset = num_characters(prompt);
}

void CompletionResponse::begin_with_logprobs(int index, int32_t first_token, const std::vector<LogprobEntry>& entries) {
  std::vector<LogprobEntry> all = {{.token = first_token,
                                    .text = tokenizer_->has_id(first_token) ? tokenizer_->token_bytes(first_token) : "",
                                    .top = {}}};
  all.insert(all.end(), entries.begin(), entries.end());
  int offset = 0;
  Json lists = logprob_lists(all, offset);
  lists["token_logprobs"][0] = lists["top_logprobs"][0] = Json();  // nothing stands before it
  choice(index).logprobs = std::move(lists);
}

void CompletionResponse::split_reasoning(int index, bool is_thinking) { choice(index).splitter.emplace(is_thinking); }

Json CompletionResponse::token_entry(int32_t id, float logprob) const {
  const std::string text = tokenizer_->has_id(id) ? tokenizer_->token_bytes(id) : "";
  return {{"token", text}, {"logprob", logprob}, {"bytes", bytes_of(text)}};
}

Json CompletionResponse::logprobs_of(Choice& choice, const std::vector<LogprobEntry>& entries) const {
  if (!is_chat()) return logprob_lists(entries, choice.next_offset);
  Json content = Json::array();
  for (const LogprobEntry& e : entries) {
    Json entry = token_entry(e.token, e.logprob);
    entry["top_logprobs"] = Json::array();
    for (const TokenLogprob& t : e.top) entry["top_logprobs"].push_back(token_entry(t.token, t.logprob));
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json CompletionResponse::logprob_lists(const std::vector<LogprobEntry>& entries, int& offset) const {
  Json tokens = Json::array(), logprobs = Json::array(), top = Json::array(), offsets = Json::array();
  for (const LogprobEntry& e : entries) {
    const std::string text = to_valid_utf8(e.text);
    tokens.push_back(text);
    logprobs.push_back(e.logprob);
    offsets.push_back(offset);
    if (!tokenizer_->is_special(e.token)) offset += num_characters(e.text);  // BOS is not in the text
    Json best = Json::object();  // of texts that are the same, such as halves of characters, the likeliest
    for (const TokenLogprob& t : e.top)
      best.emplace(tokenizer_->has_id(t.token) ? to_valid_utf8(tokenizer_->token_bytes(t.token)) : "", t.logprob);
    best[text] = e.logprob;
    top.push_back(std::move(best));
  }
  return {{"tokens", tokens}, {"token_logprobs", logprobs}, {"top_logprobs", top}, {"text_offset", offsets}};
}

ReasoningSplitter::Texts CompletionResponse::texts_of(Choice& choice, const TextDelta& delta) {
  if (!choice.splitter) return {.reasoning = {}, .content = delta.text};
  ReasoningSplitter::Texts texts = choice.splitter->push(delta.text);
  if (delta.finish == FinishReason::none) return texts;
  const ReasoningSplitter::Texts rest = choice.splitter->flush();
  return {.reasoning = texts.reasoning + rest.reasoning, .content = texts.content + rest.content};
}

Json CompletionResponse::frame(const char* object_suffix) const {
  return {{"id", id_},
          {"object", (is_chat() ? "chat.completion" : "text_completion") + std::string(is_chat() ? object_suffix : "")},
          {"created", created_},
          {"model", model_}};
}

std::string CompletionResponse::opening_event(int index) {
  Choice& c = choice(index);
  Json out = frame(".chunk");
  if (is_chat())
    out["choices"] = Json::array({{{"index", index},
                                   {"delta", {{"role", "assistant"}, {"content", ""}}},
                                   {"logprobs", nullptr},
                                   {"finish_reason", nullptr}}});
  else if (c.text.empty())
    return "";
  else
    out["choices"] =
        Json::array({{{"index", index}, {"text", c.text}, {"logprobs", c.logprobs}, {"finish_reason", nullptr}}});
  return sse_event(out);
}

std::string CompletionResponse::event(int index, const TextDelta& delta, const Usage& usage) {
  Choice& c = choice(index);
  const ReasoningSplitter::Texts texts = texts_of(c, delta);
  const bool is_told = !texts.content.empty() || !texts.reasoning.empty() || !delta.logprobs.empty() ||
                       delta.finish != FinishReason::none;
  if (!is_told) return "";  // the beginning of a tag, perhaps
  Json out = frame(".chunk");
  Json one = {{"index", index}};
  if (is_chat()) {
    one["delta"] = Json::object();
    if (!texts.reasoning.empty()) one["delta"]["reasoning_content"] = texts.reasoning;
    if (!texts.content.empty()) one["delta"]["content"] = texts.content;
  } else {
    one["text"] = delta.text;
  }
  one["logprobs"] = wants_logprobs_ && !delta.logprobs.empty() ? logprobs_of(c, delta.logprobs) : Json();
  one["finish_reason"] = delta.finish == FinishReason::none ? Json() : Json(to_string(delta.finish));
  out["choices"] = Json::array({std::move(one)});
  if (continuous_usage_) out["usage"] = to_json(usage);
  return sse_event(out);
}

std::string CompletionResponse::usage_event(const Usage& usage) const {
  Json out = frame(".chunk");
  out["choices"] = Json::array();
  out["usage"] = to_json(usage);
  return sse_event(out);
}

void CompletionResponse::add(int index, const TextDelta& delta) {
  Choice& c = choice(index);
  if (wants_logprobs_ && !delta.logprobs.empty()) {
    Json more = logprobs_of(c, delta.logprobs);
    if (c.logprobs.is_null())
      c.logprobs = std::move(more);
    else
      for (auto& [key, list] : more.items())
        if (list.is_array()) c.logprobs[key].insert(c.logprobs[key].end(), list.begin(), list.end());
  }
  const ReasoningSplitter::Texts texts = texts_of(c, delta);
  c.reasoning += texts.reasoning;
  c.text += texts.content;
  if (delta.finish != FinishReason::none) c.finish = to_string(delta.finish);
}

Json CompletionResponse::whole(const Usage& usage) const {
  Json out = frame("");
  out["choices"] = Json::array();
  for (size_t i = 0; i < choices_.size(); ++i) {
    const Choice& c = choices_[i];
    Json one = {{"index", i}};
    if (is_chat())
      one["message"] = {{"role", "assistant"}, {"content", c.text}, {"refusal", nullptr}};
    else
      one["text"] = c.text;
    if (c.splitter) one["message"]["reasoning_content"] = or_null(c.reasoning);
    one["logprobs"] = c.logprobs;
    one["finish_reason"] = or_null(c.finish);
    out["choices"].push_back(std::move(one));
  }
  out["usage"] = to_json(usage);
  return out;
}

}  // namespace comet::server
