// SPDX-License-Identifier: Apache-2.0
// What the server says of itself before the load.
#pragma once

#include <string>

#include "loadgen/target.h"

namespace comet::loadgen {

struct ServerInfo {
  std::string model;
  int context = 0, vocab_size = 0;  // 0: not told
};

struct Answer {
  int status = 0;
  std::string body;
};

// One GET on a connection of its own. Throws InvalidInput when there is no answer within timeout_s.
Answer get(const BaseUrl& url, const std::string& path, const std::string& api_key, double timeout_s);

// Asks /v1/models, for up to options.wait_s until there is one. `options.model`, when given, must be in it. Throws
// InvalidInput that says what to do: not reachable, not ready, 401, no such path, no such model.
ServerInfo probe(const BaseUrl& url, const api::BenchServeOptions& options);

// Of the body of /v1/models. Throws InvalidInput.
ServerInfo parse_models(const std::string& body, const std::string& wanted_model);

}  // namespace comet::loadgen
