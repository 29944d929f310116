// SPDX-License-Identifier: Apache-2.0
#include "server/error.h"

#include "base/check.h"
#include "engine/sampling.h"

namespace comet::server {
namespace {

const char* type_of(int status) {
  switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 429: return "rate_limit_error";
    default: return status < 500 ? "invalid_request_error" : "server_error";
  }
}

}  // namespace

Json to_json(const ApiError& error) {
  return {{"error",
           {{"message", error.what()},
            {"type", type_of(error.status())},
            {"param", error.param().empty() ? Json() : Json(error.param())},
            {"code", error.code().empty() ? Json() : Json(error.code())}}}};
}

ApiError to_api_error(const std::exception& error) {
  if (const auto* api = dynamic_cast<const ApiError*>(&error)) return *api;
  if (const auto* parameter = dynamic_cast<const InvalidParameter*>(&error))
    return {400, "invalid_value", parameter->what(), parameter->field};
  if (dynamic_cast<const InvalidInput*>(&error) != nullptr) return {400, "invalid_value", error.what()};
  return {500, "internal_error", "an internal error; the server's log says more"};
}

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace comet::server
