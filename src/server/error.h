// SPDX-License-Identifier: Apache-2.0
// Errors as clients see them: an HTTP status and OpenAI's JSON.
#pragma once

#include <exception>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace comet::server {

using Json = nlohmann::ordered_json;  // keys keep their order: chat templates may print them

class ApiError : public std::runtime_error {
 public:
  // param: the field that is wrong ("messages[0].role"), or empty.
  ApiError(int status, std::string code, const std::string& message, std::string param = {})
      : std::runtime_error(message), status_(status), code_(std::move(code)), param_(std::move(param)) {}

  int status() const { return status_; }
  const std::string& code() const { return code_; }
  const std::string& param() const { return param_; }

 private:
  int status_;
  std::string code_, param_;
};

// A field of a request body that is not as it should be.
inline ApiError bad_field(const std::string& param, const std::string& message) {
  return {400, "invalid_value", param + ": " + message, param};
}

// {"error": {"message", "type", "param", "code"}}
Json to_json(const ApiError& error);

// What the user did is a 400, everything else a 500 that keeps its details in the log.
ApiError to_api_error(const std::exception& error);

// `json` as text; bytes that are no UTF-8 become U+FFFD.
std::string dump(const Json& json);

}  // namespace comet::server
