// SPDX-License-Identifier: Apache-2.0
#include "server/openapi.h"

#include <algorithm>
#include <cctype>
#include <map>

#include "server/routes.h"

namespace comet::server {
namespace {

// Of answers. Every property that can be there is; all but those of `required` may be missing.
constexpr const char* kAnswerSchemas = R"json({
  "Error": {"type": "object", "required": ["error"], "additionalProperties": false, "properties": {"error": {
    "type": "object", "required": ["message", "type", "param", "code"], "additionalProperties": false,
    "properties": {"message": {"type": "string"}, "type": {"type": "string"}, "param": {"type": ["string", "null"]},
                   "code": {"type": ["string", "null"]}}}}},
  "Usage": {"type": "object", "required": ["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"],
    "additionalProperties": false, "properties": {
      "prompt_tokens": {"type": "integer", "minimum": 1}, "completion_tokens": {"type": "integer", "minimum": 0},
      "total_tokens": {"type": "integer", "minimum": 1},
      "prompt_tokens_details": {"type": "object", "required": ["cached_tokens"], "additionalProperties": false,
        "properties": {"cached_tokens": {"type": "integer", "minimum": 0}}}}},
  "FinishReason": {"type": ["string", "null"], "enum": ["stop", "length", "cancelled", null]},
  "TokenLogprob": {"type": "object", "required": ["token", "logprob", "bytes"], "properties": {
    "token": {"type": "string"}, "logprob": {"type": "number", "maximum": 0},
    "bytes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}}}},
  "ChatLogprobs": {"type": ["object", "null"], "required": ["content", "refusal"], "additionalProperties": false,
    "properties": {"refusal": {"type": "null"}, "content": {"type": "array", "items": {
      "allOf": [{"$ref": "#/components/schemas/TokenLogprob"}], "required": ["top_logprobs"], "properties": {
        "top_logprobs": {"type": "array", "items": {"$ref": "#/components/schemas/TokenLogprob"}}}}}}},
  "TextLogprobs": {"type": ["object", "null"], "required": ["tokens", "token_logprobs", "top_logprobs", "text_offset"],
    "additionalProperties": false, "properties": {
      "tokens": {"type": "array", "items": {"type": "string"}},
      "token_logprobs": {"type": "array", "items": {"type": ["number", "null"], "maximum": 0}},
      "top_logprobs": {"type": "array", "items": {"type": ["object", "null"], "additionalProperties": {"type": "number"}}},
      "text_offset": {"type": "array", "items": {"type": "integer", "minimum": 0}}}},
  "Completion": {"type": "object", "required": ["id", "object", "created", "model", "choices", "usage"],
    "additionalProperties": false, "properties": {
      "id": {"type": "string"}, "object": {"const": "text_completion"}, "created": {"type": "integer"},
      "model": {"type": "string"}, "usage": {"$ref": "#/components/schemas/Usage"},
      "choices": {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": false,
        "required": ["index", "text", "logprobs", "finish_reason"], "properties": {
          "index": {"type": "integer", "minimum": 0}, "text": {"type": "string"},
          "logprobs": {"$ref": "#/components/schemas/TextLogprobs"},
          "finish_reason": {"$ref": "#/components/schemas/FinishReason"}}}}}},
  "ChatCompletion": {"type": "object", "required": ["id", "object", "created", "model", "choices", "usage"],
    "additionalProperties": false, "properties": {
      "id": {"type": "string"}, "object": {"const": "chat.completion"}, "created": {"type": "integer"},
      "model": {"type": "string"}, "usage": {"$ref": "#/components/schemas/Usage"},
      "choices": {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": false,
        "required": ["index", "message", "logprobs", "finish_reason"], "properties": {
          "index": {"type": "integer", "minimum": 0},
          "message": {"type": "object", "required": ["role", "content"], "additionalProperties": false, "properties": {
            "role": {"const": "assistant"}, "content": {"type": "string"}, "refusal": {"type": "null"},
            "reasoning_content": {"type": ["string", "null"]}}},
          "logprobs": {"$ref": "#/components/schemas/ChatLogprobs"},
          "finish_reason": {"$ref": "#/components/schemas/FinishReason"}}}}}},
  "Event": {"type": "object", "required": ["data"], "properties": {"data": {"type": "string",
    "description": "A JSON object like the whole answer, with what is new of its choices, or [DONE]"}}},
  "Model": {"type": "object", "required": ["id", "object", "created", "owned_by"], "properties": {
    "id": {"type": "string"}, "object": {"const": "model"}, "created": {"type": "integer"},
    "owned_by": {"type": "string"}, "max_model_len": {"type": "integer", "minimum": 1},
    "vocab_size": {"type": "integer", "minimum": 1}}},
  "Models": {"type": "object", "required": ["object", "data"], "additionalProperties": false, "properties": {
    "object": {"const": "list"}, "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}}}},
  "Tokens": {"type": "object", "required": ["count", "max_model_len", "tokens"], "additionalProperties": false,
    "properties": {"count": {"type": "integer", "minimum": 0}, "max_model_len": {"type": "integer", "minimum": 1},
                   "tokens": {"type": "array", "items": {"type": "integer", "minimum": 0}}}},
  "Text": {"type": "object", "required": ["prompt"], "additionalProperties": false,
    "properties": {"prompt": {"type": "string"}}},
  "Status": {"type": "object", "required": ["status"], "additionalProperties": false,
    "properties": {"status": {"type": "string", "enum": ["ok", "ready", "not ready", "loading", "failed"]}}},
  "Version": {"type": "object", "required": ["version"], "additionalProperties": false,
    "properties": {"version": {"type": "string"}}},
  "Load": {"type": "object", "required": ["server_load"], "additionalProperties": false,
    "properties": {"server_load": {"type": "integer", "minimum": 0}}}
})json";

Json schema_content(const Json& schema) { return {{"application/json", {{"schema", schema}}}}; }

Json answer_content(const char* name) {
  return schema_content({{"$ref", std::string("#/components/schemas/") + name}});
}

Json ok_content(const Route& route) {
  static const std::map<std::string, const char*> schemas = {{"/v1/completions", "Completion"},
                                                             {"/v1/chat/completions", "ChatCompletion"},
                                                             {"/v1/models", "Models"},
                                                             {"/v1/models/{id}", "Model"},
                                                             {"/tokenize", "Tokens"},
                                                             {"/detokenize", "Text"},
                                                             {"/health", "Status"},
                                                             {"/ready", "Status"},
                                                             {"/version", "Version"},
                                                             {"/load", "Load"}};
  if (const auto it = schemas.find(route.path); it != schemas.end()) {
    Json content = answer_content(it->second);
    if (route.completion) content["text/event-stream"] = {{"schema", {{"$ref", "#/components/schemas/Event"}}}};
    return content;
  }
  if (std::string_view(route.path) == "/metrics") return {{"text/plain", {{"schema", {{"type", "string"}}}}}};
  return schema_content({{"type", "object"}});
}

Json request_schema(const Route& route) {
  if (route.completion) return completion_request_schema(*route.completion);
  return std::string_view(route.path) == "/tokenize" ? tokenize_schema() : detokenize_schema();
}

Json operation_of(const Route& route, bool has_keys) {
  const bool is_probe = route.is_public;  // health and ready say what they are, not what is wrong
  Json operation = {
      {"summary", route.summary},
      {"responses",
       {{"200", {{"description", "OK"}, {"content", ok_content(route)}}},
        {"4XX", {{"description", "What is wrong"}, {"content", answer_content("Error")}}},
        {"503", {{"description", "Not now"}, {"content", answer_content(is_probe ? "Status" : "Error")}}}}}};
  if (route.takes_body)
    operation["requestBody"] = {{"required", true}, {"content", schema_content(request_schema(route))}};
  if (std::string_view(route.path).ends_with("{id}"))
    operation["parameters"] =
        Json::array({{{"name", "id"}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}}});
  if (has_keys && !route.is_public) operation["security"] = Json::array({Json{{"key", Json::array()}}});
  return operation;
}

}  // namespace

Json openapi_document(const std::string& version, bool has_keys) {
  Json paths = Json::object();
  for (const Route& route : routes()) {
    std::string method = route.method;
    std::transform(method.begin(), method.end(), method.begin(), [](unsigned char c) { return std::tolower(c); });
    paths[route.path][method] = operation_of(route, has_keys);
  }
  Json components = {{"schemas", Json::parse(kAnswerSchemas)}};
  if (has_keys) components["securitySchemes"] = {{"key", {{"type", "http"}, {"scheme", "bearer"}}}};
  return {{"openapi", "3.1.0"},
          {"info", {{"title", "Comet"}, {"version", version}}},
          {"paths", std::move(paths)},
          {"components", std::move(components)}};
}

}  // namespace comet::server
