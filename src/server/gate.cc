// SPDX-License-Identifier: Apache-2.0
#include "server/gate.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cctype>

#include "base/check.h"

namespace comet::server {
namespace {

constexpr size_t kMaxBuckets = 65536;

std::array<unsigned char, 32> digest(std::string_view text) {
  std::array<unsigned char, 32> out{};
  unsigned size = 0;
  COMET_CHECK(EVP_Digest(text.data(), text.size(), out.data(), &size, EVP_sha256(), nullptr) == 1 && size == 32);
  return out;
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) { return std::tolower(c); });
  return out;
}

// "example.org:8000" -> "example.org"; "[::1]:8000" -> "::1".
std::string host_name(std::string_view host) {
  if (host.starts_with("["))
    return lower(host.substr(1, host.find(']') == std::string_view::npos ? 0 : host.find(']') - 1));
  return lower(host.substr(0, host.rfind(':')));
}

// "http://localhost:3000" -> "localhost:3000"
std::string_view authority(std::string_view origin) {
  const size_t at = origin.find("://");
  return at == std::string_view::npos ? origin : origin.substr(at + 3);
}

}  // namespace

bool is_loopback(const std::string& host) {
  if (host == "localhost" || host == "::1") return true;
  in_addr address{};  // an address, not a name that begins like one: 127.example.org is anybody's
  return host.starts_with("127.") && inet_pton(AF_INET, host.c_str(), &address) == 1;
}

Gate::Gate(const ServerOptions& options)
    : checks_host_(options.api_keys.empty() && !options.no_auth),
      hosts_(options.allowed_hosts),
      origins_(options.cors_origins),
      rate_(options.rate_limit) {
  for (const std::string& key : options.api_keys) keys_.push_back(digest(key));
  for (std::string& host : hosts_) host = lower(host);
}

void Gate::check_options(const ServerOptions& options) {
  if (!is_loopback(options.host) && options.api_keys.empty() && !options.no_auth)
    throw_invalid(
        "{} can be reached from other machines: give API keys (--api-key, --api-key-file or COMET_API_KEY), or "
        "--no-auth to serve everybody",
        options.host);
  for (const std::string& key : options.api_keys)
    if (key.empty()) throw_invalid("an API key is empty");
  if (options.tls_cert.empty() != options.tls_key.empty())
    throw_invalid("TLS needs both a certificate and a key: --tls-cert and --tls-key");
}

void Gate::check_origin(const Credentials& c) const {
  if (checks_host_) {
    const std::string name = host_name(c.host);
    if (!is_loopback(name) && std::find(hosts_.begin(), hosts_.end(), name) == hosts_.end())
      throw ApiError(403, "host_not_allowed", "the Host header does not name this server; --allowed-host adds a name");
  }
  if (c.origin.empty() || allowed_origin(c.origin)) return;
  if (lower(authority(c.origin)) == lower(c.host)) return;  // its own pages
  throw ApiError(403, "origin_not_allowed", "pages of this origin may not call; --cors-origin allows one");
}

std::string Gate::check_key(const Credentials& c) const {
  if (keys_.empty()) return {};
  std::string_view given = c.authorization;
  if (given.size() > 7 && lower(given.substr(0, 7)) == "bearer ") {
    const Digest mine = digest(given.substr(7));
    int found = 0;
    for (const Digest& key : keys_) found |= CRYPTO_memcmp(key.data(), mine.data(), mine.size()) == 0 ? 1 : 0;
    if (found != 0) return {mine.begin(), mine.end()};
  }
  throw ApiError(401, "invalid_api_key", "a valid API key is needed: Authorization: Bearer KEY");
}

void Gate::check_rate(const std::string& client, std::chrono::steady_clock::time_point now) {
  if (rate_ <= 0) return;
  const double most = std::max(1.0, rate_);
  std::lock_guard lock(mutex_);
  if (buckets_.size() >= kMaxBuckets) buckets_.clear();
  Bucket& bucket = buckets_.try_emplace(client, Bucket{most, now}).first->second;
  bucket.tokens = std::min(most, bucket.tokens + Seconds(now - bucket.filled).count() * rate_);
  bucket.filled = now;
  if (bucket.tokens < 1) throw ApiError(429, "rate_limit_exceeded", "too many requests; try again in a second");
  bucket.tokens -= 1;
}

std::optional<std::string> Gate::allowed_origin(std::string_view origin) const {
  for (const std::string& allowed : origins_)
    if (allowed == "*" || lower(allowed) == lower(origin)) return std::string(origin);
  return std::nullopt;
}

}  // namespace comet::server
