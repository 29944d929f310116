// SPDX-License-Identifier: Apache-2.0
// The server under load: its address, and the bytes of a request to it.
#pragma once

#include <string>

#include "comet/bench_serve.h"
#include "loadgen/workload.h"

namespace comet::loadgen {

struct BaseUrl {
  std::string host, port, path;  // path: what stands before /v1, "" or "/prefix"

  std::string text() const;  // http://host:port/path
};

// Of http://HOST[:PORT][/PATH], with or without a last /v1. Throws InvalidInput.
BaseUrl parse_base_url(const std::string& text);

class Target {
 public:
  // Throws InvalidInput for options.extra_body that is no JSON object.
  Target(const api::BenchServeOptions& options, BaseUrl url, std::string model, int vocab_size);

  const BaseUrl& url() const { return url_; }
  // Head and body of the POST that streams an answer to `request`.
  std::string post(const Request& request) const;

 private:
  BaseUrl url_;
  api::BenchEndpoint endpoint_;
  int vocab_size_;
  std::string head_, fields_;  // up to Content-Length; the JSON of what all requests have, without its last brace
};

// Head of a GET.
std::string get_request(const BaseUrl& url, const std::string& path, const std::string& api_key);

}  // namespace comet::loadgen
