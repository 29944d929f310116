// SPDX-License-Identifier: Apache-2.0
#include "server/service.h"

#include <ctime>

#include "server/schema.h"

namespace comet::server {
namespace {

constexpr size_t kMaxDetokenize = 1 << 20;

int64_t now_s() { return static_cast<int64_t>(std::time(nullptr)); }

}  // namespace

void Service::set_model(ServedModel model) {
  model_ = std::move(model);
  created_ = now_s();
  metrics_ = std::make_unique<Metrics>(options_.metrics_prefix, model_.names.front());
  state_ = State::ready;
}

Service::State Service::state() const {
  const State state = state_;
  if (state == State::ready && !model_.engine->failure().empty()) return State::failed;
  return state;
}

const ServedModel& Service::model_for_request(const std::string& name) const {
  switch (state()) {
    case State::ready: break;
    case State::loading: throw ApiError(503, "loading", "the model is being loaded; try again soon");
    case State::draining: throw ApiError(503, "shutting_down", "the server is shutting down");
    case State::failed: throw ApiError(503, "engine_failed", model_.engine->failure());
  }
  for (const std::string& known : model_.names)
    if (name.empty() || name == known) return model_;
  throw ApiError(404, "model_not_found",
                 fmt::format("there is no model \"{}\"; this server has \"{}\"", name, model_.names.front()), "model");
}

Json Service::model(const std::string& name) const {
  return {{"id", name},
          {"object", "model"},
          {"created", created_},
          {"owned_by", "comet"},
          {"max_model_len", model_for_request(name).engine->context()},
          {"vocab_size", model_.vocab_size}};
}

Json Service::models() const {
  Json list = Json::array();
  for (const std::string& name : model_for_request("").names) list.push_back(model(name));
  return {{"object", "list"}, {"data", std::move(list)}};
}

Json tokenize_schema() {
  const Json chat = completion_request_schema(Endpoint::chat);
  return {{"type", "object"},
          {"properties",
           {{"model", {{"type", "string"}}},
            {"prompt", {{"type", "string"}}},
            {"messages", chat["properties"]["messages"]},
            {"add_special_tokens", {{"type", "boolean"}}},
            {"add_generation_prompt", {{"type", "boolean"}}},
            {"chat_template_kwargs", {{"type", "object"}}}}},
          {"additionalProperties", false}};
}

Json detokenize_schema() {
  return {{"type", "object"},
          {"properties",
           {{"model", {{"type", "string"}}},
            {"tokens",
             {{"type", "array"},
              {"items", {{"type", "integer"}, {"minimum", 0}, {"maximum", INT32_MAX}}},
              {"maxItems", kMaxDetokenize}}}}},
          {"required", Json::array({"tokens"})},
          {"additionalProperties", false}};
}

Json Service::tokenize(const Json& body) const {
  static const Json schema = tokenize_schema();
  check_schema(body, schema, "");
  const ServedModel& model = model_for_request(body.value("model", ""));
  std::vector<int32_t> ids;
  if (body.contains("messages")) {
    Json chat = {{"messages", body["messages"]}};
    for (const char* name : {"add_generation_prompt", "chat_template_kwargs"})
      if (body.contains(name)) chat[name] = body[name];
    const CompletionRequest r = parse_completion_request(Endpoint::chat, chat, {});
    const Frontend frontend(*model.engine, *model.tokenizer, model.chat_template, model.vocab_size);
    GenerationRequest g;
    g.prompt = ChatPrompt{r.messages, r.template_variables, r.add_generation_prompt};
    ids = frontend.prompt_ids(g);
  } else if (body.contains("prompt")) {
    ids = model.tokenizer->encode(body["prompt"].get_ref<const std::string&>(), body.value("add_special_tokens", true));
  } else {
    throw bad_field("prompt", "is missing (or messages)");
  }
  return {{"count", ids.size()}, {"max_model_len", model.engine->context()}, {"tokens", ids}};
}

Json Service::detokenize(const Json& body) const {
  static const Json schema = detokenize_schema();
  check_schema(body, schema, "");
  const ServedModel& model = model_for_request(body.value("model", ""));
  return {{"prompt", model.tokenizer->decode(body["tokens"].get<std::vector<int32_t>>(), false)}};
}

std::string Service::metrics_text() const {
  if (!metrics_) throw ApiError(503, "loading", "the model is being loaded; try again soon");
  return metrics_->text(model_.engine->stats(), num_open_);
}

void Service::reserve(int num_choices) {
  const int most = model_.max_sequences + options_.max_queue;
  if (num_choices > most)
    throw ApiError(400, "invalid_value",
                   fmt::format("{} choices are more than the {} that run or wait at once", num_choices, most), "n");
  if (num_open_.fetch_add(num_choices) + num_choices > most) {
    num_open_ -= num_choices;
    throw ApiError(503, "queue_full", fmt::format("{} requests run or wait already; try again soon", most));
  }
}

}  // namespace comet::server
