// SPDX-License-Identifier: Apache-2.0
// Who may come in: API keys, Host and Origin, requests a second.
#pragma once

#include <array>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/error.h"
#include "server/options.h"

namespace comet::server {

// Headers of a request; empty where it has none.
struct Credentials {
  std::string_view authorization, host, origin;
};

class Gate {
 public:
  explicit Gate(const ServerOptions& options);

  // Throws InvalidInput for an address beyond loopback that neither has keys nor says no_auth.
  static void check_options(const ServerOptions& options);

  // Throws ApiError 403: a page of another origin, or a name that is not ours (DNS rebinding).
  void check_origin(const Credentials& c) const;
  // Throws ApiError 401 without a known key. Compares digests of all keys in constant time. Returns the key's digest,
  // or nothing where no key is needed.
  std::string check_key(const Credentials& c) const;
  // Throws ApiError 429 when `client` (a key's digest, or an address) has used up what --rate-limit gives it.
  void check_rate(const std::string& client, std::chrono::steady_clock::time_point now);
  // The value of Access-Control-Allow-Origin, or none.
  std::optional<std::string> allowed_origin(std::string_view origin) const;

 private:
  using Digest = std::array<unsigned char, 32>;
  struct Bucket {
    double tokens;
    std::chrono::steady_clock::time_point filled;
  };

  std::vector<Digest> keys_;
  bool checks_host_;
  std::vector<std::string> hosts_, origins_;
  double rate_;
  std::mutex mutex_;
  std::map<std::string, Bucket> buckets_;
};

bool is_loopback(const std::string& host);

}  // namespace comet::server
