// SPDX-License-Identifier: Apache-2.0
#include "server/completion_request.h"

#include <algorithm>
#include <cstdint>

#include "server/schema.h"

namespace comet::server {
namespace {

constexpr int kMaxPrompts = 128, kMaxMessages = 4096, kMaxStops = 16, kMaxStopLength = 256;
constexpr int64_t kMaxTokenId = INT32_MAX;

enum class In { chat, completions, both };

struct Field {
  const char* name;
  In in;
  const char* description;
  Json schema;  // null is allowed besides, and means: not given
  void (*read)(CompletionRequest& r, const Json& value);
};

Json number(double least, double most) { return {{"type", "number"}, {"minimum", least}, {"maximum", most}}; }
Json integer(int64_t least, int64_t most) { return {{"type", "integer"}, {"minimum", least}, {"maximum", most}}; }
Json boolean() { return {{"type", "boolean"}}; }
Json text(size_t longest) { return {{"type", "string"}, {"maxLength", longest}}; }
Json only(const Json& value) { return {{"enum", {value}}}; }
Json list(const Json& items, size_t least, size_t most) {
  return {{"type", "array"}, {"items", items}, {"minItems", least}, {"maxItems", most}};
}

Json prompt_schema() {
  const Json ids = {{"type", "array"}, {"items", integer(0, kMaxTokenId)}, {"minItems", 1}};
  return {
      {"anyOf", {{{"type", "string"}}, list({{"type", "string"}}, 1, kMaxPrompts), ids, list(ids, 1, kMaxPrompts)}}};
}

Json message_schema() {
  const Json part = {{"type", "object"},
                     {"properties", {{"type", {{"enum", {"text"}}}}, {"text", {{"type", "string"}}}}},
                     {"required", {"type", "text"}}};
  const Json content = {{"anyOf", {{{"type", {"string", "null"}}}, {{"type", "array"}, {"items", part}}}}};
  return {{"type", "object"},
          {"properties",
           {{"role", {{"enum", {"system", "developer", "user", "assistant", "tool"}}}},
            {"content", content},
            {"name", {{"type", "string"}}}}},
          {"required", {"role"}}};
}

Json stop_schema() {
  const Json one = {{"type", "string"}, {"minLength", 1}, {"maxLength", kMaxStopLength}};
  return {{"anyOf", {one, {{"type", "array"}, {"items", one}, {"maxItems", kMaxStops}}}}};
}

Json logit_bias_schema() {
  return {
      {"type", "object"}, {"propertyNames", {{"pattern", "^[0-9]+$"}}}, {"additionalProperties", number(-100, 100)}};
}

template <typename T>
T as(const Json& value) {  // 1.0 counts as an integer
  return value.is_number_float() ? static_cast<T>(value.get<double>()) : value.get<T>();
}

void read_prompt(CompletionRequest& r, const Json& v) {
  if (v.is_string()) {
    r.prompts = {v.get<std::string>()};
  } else if (v[0].is_number()) {
    r.prompts = {v.get<std::vector<int32_t>>()};
  } else {
    for (const Json& one : v) {
      if (one.is_string())
        r.prompts.emplace_back(one.get<std::string>());
      else
        r.prompts.emplace_back(one.get<std::vector<int32_t>>());
    }
  }
}

// Templates expect text: parts are put together; newer role names get the one that templates know.
void read_messages(CompletionRequest& r, const Json& v) {
  r.messages = v;
  for (Json& message : r.messages) {
    if (message["role"] == "developer") message["role"] = "system";
    if (!message.contains("content")) message["content"] = "";
    if (!message["content"].is_array()) continue;
    std::string joined;
    for (const Json& part : message["content"]) joined += part["text"].get<std::string>();
    message["content"] = joined;
  }
}

void read_logit_bias(CompletionRequest& r, const Json& v) {
  for (const auto& [key, bias] : v.items()) {
    if (key.size() > 9) throw bad_field("logit_bias", "\"" + key + "\" is not a token id");
    r.params.logit_bias[std::stoi(key)] = bias.get<float>();
  }
}

void read_stop(CompletionRequest& r, const Json& v) {
  r.stop = v.is_string() ? std::vector{v.get<std::string>()} : v.get<std::vector<std::string>>();
}

// A field that OpenAI's clients send and that changes nothing here.
void ignore(CompletionRequest&, const Json&) {}

// NOLINTBEGIN(readability-function-size)
const std::vector<Field>& fields() {
  using R = CompletionRequest;
  static const std::vector<Field> table = {
      {"model", In::both, "Name of the served model.", text(256), [](R& r, const Json& v) { r.model = v; }},
      {"messages", In::chat, "The conversation so far.", list(message_schema(), 1, kMaxMessages), read_messages},
      {"prompt", In::completions, "Text or token ids to continue, or a list of either.", prompt_schema(), read_prompt},
      {"max_tokens", In::chat, "Most tokens to generate; without it, up to the context's end.", integer(1, INT32_MAX),
       [](R& r, const Json& v) { r.params.max_tokens = as<int>(v); }},
      {"max_tokens", In::completions, "The same; 0, with echo, tells of the prompt only.", integer(0, INT32_MAX),
       [](R& r, const Json& v) {
         r.is_prompt_only = as<int>(v) == 0;
         r.params.max_tokens = std::max(as<int>(v), 1);
       }},
      {"max_completion_tokens", In::chat, "OpenAI's newer name of max_tokens.", integer(1, INT32_MAX),
       [](R& r, const Json& v) { r.params.max_tokens = as<int>(v); }},
      {"min_tokens", In::both, "End-of-text and stop tokens cannot be chosen before this many.", integer(0, INT32_MAX),
       [](R& r, const Json& v) { r.params.min_tokens = as<int>(v); }},
      {"temperature", In::both, "0 takes the likeliest token.", number(0, 100),
       [](R& r, const Json& v) { r.params.temperature = v; }},
      {"top_p",
       In::both,
       "Choose among the likeliest tokens that have this much probability.",
       {{"type", "number"}, {"exclusiveMinimum", 0}, {"maximum", 1}},
       [](R& r, const Json& v) { r.params.top_p = v; }},
      {"top_k", In::both, "Choose among the k likeliest tokens; 0 or -1: all.", integer(-1, INT32_MAX),
       [](R& r, const Json& v) { r.params.top_k = as<int>(v); }},
      {"min_p", In::both, "Leave out tokens below this share of the likeliest one's probability.", number(0, 1),
       [](R& r, const Json& v) { r.params.min_p = v; }},
      {"repetition_penalty",
       In::both,
       "Above 1 discourages tokens that occurred.",
       {{"type", "number"}, {"exclusiveMinimum", 0}, {"maximum", 100}},
       [](R& r, const Json& v) { r.params.repetition_penalty = v; }},
      {"presence_penalty", In::both, "On tokens of the output.", number(-2, 2),
       [](R& r, const Json& v) { r.params.presence_penalty = v; }},
      {"frequency_penalty", In::both, "On tokens of the output, for each occurrence.", number(-2, 2),
       [](R& r, const Json& v) { r.params.frequency_penalty = v; }},
      {"logit_bias", In::both, "Token id to what is added to its logit.", logit_bias_schema(), read_logit_bias},
      {"seed", In::both, "The same seed gives the same tokens.", integer(INT64_MIN, INT64_MAX),
       [](R& r, const Json& v) { r.params.seed = static_cast<uint64_t>(as<int64_t>(v)); }},
      {"n", In::both, "Choices for each prompt.", integer(1, kMaxChoices),
       [](R& r, const Json& v) { r.params.n = as<int>(v); }},
      {"stop", In::both, "End before one of these texts.", stop_schema(), read_stop},
      {"stop_token_ids", In::both, "End at one of these tokens.", list(integer(0, kMaxTokenId), 0, 1024),
       [](R& r, const Json& v) { r.params.stop_token_ids = v.get<std::vector<int32_t>>(); }},
      {"ignore_eos", In::both, "Go on after an end-of-text token.", boolean(),
       [](R& r, const Json& v) { r.params.ignore_eos = v; }},
      {"logprobs", In::chat, "Report log-probabilities of the chosen tokens.", boolean(),
       [](R& r, const Json& v) {
         if (v.get<bool>() && !r.params.logprobs) r.params.logprobs = 0;
       }},
      {"top_logprobs", In::chat, "And of this many likeliest ones; needs logprobs.", integer(0, kMaxLogprobs),
       [](R& r, const Json& v) { r.params.logprobs = as<int>(v); }},
      {"logprobs", In::completions, "Report log-probabilities, also of this many likeliest tokens.",
       integer(0, kMaxLogprobs), [](R& r, const Json& v) { r.params.logprobs = as<int>(v); }},
      {"echo", In::completions, "Begin the answer with the prompt.", boolean(),
       [](R& r, const Json& v) { r.echo = v; }},
      {"stream", In::both, "Answer in server-sent events as tokens come.", boolean(),
       [](R& r, const Json& v) { r.stream = v; }},
      {"stream_options",
       In::both,
       "With stream only.",
       {{"type", "object"},
        {"properties", {{"include_usage", boolean()}, {"continuous_usage_stats", boolean()}}},
        {"additionalProperties", false}},
       [](R& r, const Json& v) {
         r.include_usage = v.value("include_usage", false);
         r.continuous_usage = v.value("continuous_usage_stats", false);
       }},
      {"chat_template_kwargs",
       In::chat,
       "Further variables of the chat template, such as enable_thinking.",
       {{"type", "object"}},
       [](R& r, const Json& v) { r.template_variables = v; }},
      {"add_generation_prompt", In::chat, "End the prompt where the assistant's answer begins (default true).",
       boolean(), [](R& r, const Json& v) { r.add_generation_prompt = v; }},
      {"priority", In::both, "Lower runs first; other than 0 only with --scheduling-policy priority.",
       integer(-1000, 1000), [](R& r, const Json& v) { r.priority = as<int>(v); }},
      {"cache_salt", In::both, "KV is shared between requests of one salt only.", text(256),
       [](R& r, const Json& v) { r.cache_salt = v; }},
      {"user", In::both, "Taken and not used.", {{"type", "string"}}, ignore},
      {"metadata", In::both, "Taken and not used.", {{"type", "object"}}, ignore},
      {"store", In::chat, "Nothing is stored.", only(false), ignore},
      {"service_tier", In::chat, "There is one.", {{"enum", {"auto", "default"}}}, ignore},
      {"best_of", In::completions, "Must not be above n: nothing is ranked.", integer(1, kMaxChoices), ignore},
      {"suffix", In::completions, "Not supported.", only(""), ignore},
  };
  return table;
}
// NOLINTEND(readability-function-size)

bool applies(const Field& field, Endpoint endpoint) {
  return field.in == In::both || (field.in == In::chat) == (endpoint == Endpoint::chat);
}

// OpenAI's fields that would change the answer if they were taken in silence.
constexpr const char* kNotBuilt[] = {"tools",
                                     "tool_choice",
                                     "functions",
                                     "function_call",
                                     "response_format",
                                     "audio",
                                     "modalities",
                                     "prediction",
                                     "parallel_tool_calls",
                                     "guided_json",
                                     "guided_regex",
                                     "guided_choice",
                                     "guided_grammar",
                                     "structured_outputs",
                                     "use_beam_search",
                                     "web_search_options"};

void apply_defaults(SamplingParams& p, const SamplingDefaults& d) {
  p.temperature = d.temperature.value_or(p.temperature);
  p.top_p = d.top_p.value_or(p.top_p);
  p.min_p = d.min_p.value_or(p.min_p);
  p.top_k = d.top_k.value_or(p.top_k);
  p.repetition_penalty = d.repetition_penalty.value_or(p.repetition_penalty);
}

}  // namespace

Json completion_request_schema(Endpoint endpoint) {
  Json properties = Json::object();
  for (const Field& field : fields()) {
    if (!applies(field, endpoint)) continue;
    Json schema = {{"anyOf", {field.schema, {{"type", "null"}}}}};
    const bool is_required = field.read == read_messages || field.read == read_prompt;
    if (is_required) schema = field.schema;
    schema["description"] = field.description;
    properties[field.name] = std::move(schema);
  }
  for (const char* name : kNotBuilt) properties[name] = {{"type", "null"}, {"description", "Not built yet."}};
  return {{"type", "object"},
          {"properties", std::move(properties)},
          {"required", Json::array({endpoint == Endpoint::chat ? "messages" : "prompt"})},
          {"additionalProperties", false}};
}

CompletionRequest parse_completion_request(Endpoint endpoint, const Json& body, const SamplingDefaults& defaults) {
  static const Json schemas[] = {completion_request_schema(Endpoint::chat),
                                 completion_request_schema(Endpoint::completions)};
  if (!body.is_object()) throw ApiError(400, "invalid_value", "the body must be a JSON object");
  for (const char* name : kNotBuilt)
    if (body.contains(name) && !body[name].is_null())
      throw ApiError(400, "unsupported_parameter", std::string(name) + " is not supported by this server", name);
  check_schema(body, schemas[endpoint == Endpoint::chat ? 0 : 1], "");
  CompletionRequest r;
  r.endpoint = endpoint;
  apply_defaults(r.params, defaults);
  r.default_max_tokens = defaults.max_tokens.value_or(0);
  for (const Field& field : fields())
    if (applies(field, endpoint) && body.contains(field.name) && !body[field.name].is_null())
      field.read(r, body[field.name]);
  const auto given = [&](const char* name) { return body.contains(name) && !body[name].is_null(); };
  if (given("top_logprobs") && !(given("logprobs") && body["logprobs"] == true))
    throw bad_field("top_logprobs", "needs \"logprobs\": true");
  if (given("best_of") && as<int>(body["best_of"]) > r.params.n) throw bad_field("best_of", "is above n");
  if (r.is_prompt_only && !r.echo) throw bad_field("max_tokens", "is 0, must be at least 1 without echo");
  if (given("stream_options") && !r.stream) throw bad_field("stream_options", "needs \"stream\": true");
  if (r.params.max_tokens && r.params.min_tokens > (r.is_prompt_only ? 0 : *r.params.max_tokens))
    throw bad_field("min_tokens", "is above max_tokens");
  return r;
}

}  // namespace comet::server
