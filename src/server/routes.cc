// SPDX-License-Identifier: Apache-2.0
#include "server/routes.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

namespace comet::server {
namespace {

constexpr int kMaxDepth = 64;      // of arrays and objects in a body
constexpr int kMaxMembers = 1024;  // of one object
constexpr std::string_view kModels = "/v1/models/", kId = "{id}";

Reply health(Service& service, const Asked&) {
  switch (service.state()) {
    case Service::State::ready:
    case Service::State::draining: return {.body = R"({"status":"ok"})"};  // alive: it still answers
    case Service::State::loading: return {.status = 503, .body = R"({"status":"loading"})"};
    case Service::State::failed: return {.status = 503, .body = R"({"status":"failed"})"};
  }
  return {};
}

Reply ready(Service& service, const Asked&) {
  const bool is_ready = service.state() == Service::State::ready;
  return {.status = is_ready ? 200 : 503, .body = is_ready ? R"({"status":"ready"})" : R"({"status":"not ready"})"};
}

Reply preflight(Service&, const Asked&) { return {.status = 204, .is_preflight = true}; }

// A path's end that stands for {id}, percent-decoded; it may have slashes.
std::string last_segment(std::string_view target) {
  const std::string_view coded = target.substr(0, target.find('?')).substr(kModels.size());
  std::string text;
  for (size_t i = 0; i < coded.size(); ++i) {
    unsigned byte = 0;
    const char* const end = coded.data() + std::min(i + 3, coded.size());
    if (coded[i] != '%' || std::from_chars(coded.data() + i + 1, end, byte, 16).ptr != coded.data() + i + 3) {
      text += coded[i];
    } else {
      text += static_cast<char>(byte);
      i += 2;
    }
  }
  return text;
}

const std::array kRoutes = {
    Route{.path = "/v1/chat/completions",
          .method = "POST",
          .summary = "Answers a conversation",
          .takes_body = true,
          .completion = Endpoint::chat},
    Route{.path = "/v1/completions",
          .method = "POST",
          .summary = "Continues text",
          .takes_body = true,
          .completion = Endpoint::completions},
    Route{.path = "/v1/models",
          .method = "GET",
          .summary = "The served model",
          .run = [](Service& s, const Asked&) { return json_reply(200, dump(s.models())); }},
    Route{.path = "/v1/models/{id}",
          .method = "GET",
          .summary = "One of the names of the served model",
          .run = [](Service& s, const Asked& a) { return json_reply(200, dump(s.model(last_segment(a.target)))); }},
    Route{.path = "/tokenize",
          .method = "POST",
          .summary = "Token ids of a text or a conversation",
          .takes_body = true,
          .run = [](Service& s, const Asked& a) { return json_reply(200, dump(s.tokenize(parse_json(a.body)))); }},
    Route{.path = "/detokenize",
          .method = "POST",
          .summary = "Text of token ids",
          .takes_body = true,
          .run = [](Service& s, const Asked& a) { return json_reply(200, dump(s.detokenize(parse_json(a.body)))); }},
    Route{.path = "/health",
          .method = "GET",
          .summary = "200 when the server is up and its model loaded",
          .is_public = true,
          .run = health},
    Route{.path = "/ready", .method = "GET", .summary = "200 when requests are taken", .is_public = true, .run = ready},
    Route{.path = "/version",
          .method = "GET",
          .summary = "Comet's version",
          .run = [](Service& s, const Asked&) { return json_reply(200, dump(s.version())); }},
    Route{.path = "/load",
          .method = "GET",
          .summary = "Choices that run or wait",
          .run = [](Service& s, const Asked&) { return json_reply(200, dump(s.load())); }},
    Route{.path = "/metrics",
          .method = "GET",
          .summary = "Prometheus metrics",
          .run =
              [](Service& s, const Asked&) {
                return Reply{.body = s.metrics_text(), .content_type = "text/plain; version=0.0.4; charset=utf-8"};
              }},
    Route{.path = "/openapi.json",
          .method = "GET",
          .summary = "This document",
          .run = [](Service&, const Asked& a) { return json_reply(200, a.openapi); }},
};

constexpr Route kPreflight{.path = "*", .method = "OPTIONS", .summary = "", .is_public = true, .run = preflight};

// nlohmann's parser takes any depth, what walks the result afterwards does not; and it looks at all members of an
// object for each new one, to keep their order.
void check_sizes(const std::string& text) {
  std::array<int, kMaxDepth + 1> num_members = {};  // of the objects and arrays that are open
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth)
        throw ApiError(400, "invalid_json", fmt::format("the body is nested deeper than {} levels", kMaxDepth));
      num_members[static_cast<size_t>(depth)] = 0;
    } else if (c == ']' || c == '}') {
      depth = std::max(depth - 1, 0);
    } else if (c == ':' && ++num_members[static_cast<size_t>(depth)] > kMaxMembers) {
      throw ApiError(400, "invalid_json", fmt::format("the body has an object of more than {} members", kMaxMembers));
    }
  }
}

bool is_path_of(const Route& route, std::string_view path) {
  const std::string_view mine = route.path;
  if (!mine.ends_with(kId)) return path == mine;
  const std::string_view stem = mine.substr(0, mine.size() - kId.size());
  return path.size() > stem.size() && path.starts_with(stem);
}

}  // namespace

std::span<const Route> routes() { return kRoutes; }

const Route& find_route(std::string_view method, std::string_view target) {
  const std::string_view path = target.substr(0, target.find('?'));
  if (method == "OPTIONS") return kPreflight;
  if (method == "HEAD") method = "GET";
  const Route* other = nullptr;
  for (const Route& route : kRoutes) {
    if (!is_path_of(route, path)) continue;
    if (method == route.method) return route;
    other = &route;
  }
  if (other != nullptr)
    throw ApiError(405, "method_not_allowed", fmt::format("{} is asked with {}", other->path, other->method),
                   other->method);
  throw ApiError(404, "not_found", "there is no such path; /openapi.json lists those there are");
}

bool is_json_type(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  while (!type.empty() && type.back() == ' ') type.pop_back();
  std::transform(type.begin(), type.end(), type.begin(), [](unsigned char c) { return std::tolower(c); });
  return type == "application/json" || (type.starts_with("application/") && type.ends_with("+json"));
}

Json parse_json(const std::string& body) {
  check_sizes(body);
  try {
    return Json::parse(body);
  } catch (const Json::parse_error& e) {
    throw ApiError(400, "invalid_json", fmt::format("the body is not JSON: error at byte {}", e.byte));
  } catch (const Json::out_of_range&) {
    throw ApiError(400, "invalid_json", "the body has a number that is too large");
  }
}

Reply json_reply(int status, std::string json) { return {.status = status, .body = std::move(json)}; }

Reply error_reply(const ApiError& error) {
  Reply reply = json_reply(error.status(), dump(to_json(error)));
  if (error.status() == 405) reply.allow = error.param();
  return reply;
}

}  // namespace comet::server
