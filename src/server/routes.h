// SPDX-License-Identifier: Apache-2.0
// Path and method to what answers it.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "server/service.h"

namespace comet::server {

struct Reply {
  int status = 200;
  std::string body = {};
  std::string content_type = "application/json";
  std::string allow = {};     // with 405: the methods there are
  bool is_preflight = false;  // a browser asks what it may do
};

// Of one request, as it came.
struct Asked {
  const std::string &target, &body;
  const std::string& openapi;  // the document
};

struct Route {
  const char* path;  // may end with {id}
  const char* method;
  const char* summary;
  bool is_public = false;  // needs no key
  bool takes_body = false;
  std::optional<Endpoint> completion = {};  // answered by the engine, not by run
  // With a body: on a worker, else on the io thread, where it must not take long.
  Reply (*run)(Service& service, const Asked& asked) = nullptr;
};

std::span<const Route> routes();
// HEAD finds what GET finds. Throws ApiError 404 and 405.
const Route& find_route(std::string_view method, std::string_view target);

bool is_json_type(std::string_view content_type);
// Throws ApiError 400 that tells where the text stops being JSON.
Json parse_json(const std::string& body);

Reply json_reply(int status, std::string json);
Reply error_reply(const ApiError& error);

}  // namespace comet::server
