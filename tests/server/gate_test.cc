// SPDX-License-Identifier: Apache-2.0
// Who may come in: keys, Host, Origin, rate.
#include "server/gate.h"

#include <gmock/gmock.h>

#include "base/check.h"
#include "refusal.h"

namespace comet::server {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

int origin_status(const ServerOptions& options, std::string_view host, std::string_view origin = "") {
  const Gate gate(options);
  return refusal([&] { gate.check_origin({.authorization = "", .host = host, .origin = origin}); }).status;
}

TEST(Gate, Keys) {
  ServerOptions o;
  o.api_keys = {"alpha", "beta"};
  const Gate gate(o);
  const auto key = [&](std::string_view authorization) {
    return gate.check_key({.authorization = authorization, .host = "", .origin = ""});
  };
  EXPECT_EQ(key("Bearer alpha").size(), 32u);
  EXPECT_EQ(key("bearer alpha"), key("BEARER alpha"));
  EXPECT_NE(key("Bearer alpha"), key("Bearer beta"));
  for (const char* bad : {"", "alpha", "Bearer", "Bearer ", "Bearer alph", "Bearer alphaa", "Bearer  alpha",
                          "Basic alpha", "Bearer ALPHA"})
    EXPECT_EQ(refusal([&] { key(bad); }).status, 401) << bad;
}

TEST(Gate, NoKeysNeedNone) {
  const Gate gate(ServerOptions{});
  EXPECT_EQ(gate.check_key({.authorization = "Bearer x", .host = "", .origin = ""}), "");
}

TEST(Gate, HostMustBeOurs) {
  ServerOptions o;
  o.allowed_hosts = {"Box.Example"};
  for (const char* good : {"localhost", "LOCALHOST:8000", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:8000",
                           "box.example", "BOX.example:1"})
    EXPECT_EQ(origin_status(o, good), 0) << good;
  for (const char* bad : {"", "evil.example", "localhost.evil.example", "127.evil.example", "127.0.0.1.evil.example",
                          "[::2]:80", "[::1", "192.168.0.1", "box.example.evil"})
    EXPECT_EQ(origin_status(o, bad), 403) << bad;
}

TEST(Gate, HostIsFreeWithKeysOrNoAuth) {
  ServerOptions keys, open;
  keys.api_keys = {"k"};
  open.no_auth = true;
  EXPECT_EQ(origin_status(keys, "any.example"), 0);
  EXPECT_EQ(origin_status(open, "any.example"), 0);
}

TEST(Gate, OriginMustBeAllowed) {
  ServerOptions o;
  o.cors_origins = {"https://app.example"};
  EXPECT_EQ(origin_status(o, "localhost:8000", "https://APP.example"), 0);
  EXPECT_EQ(origin_status(o, "localhost:8000", "http://localhost:8000"), 0);  // its own pages
  for (const char* bad : {"http://localhost:3000", "http://app.example", "https://app.example.evil", "null"})
    EXPECT_EQ(origin_status(o, "localhost:8000", bad), 403) << bad;
  const Gate gate(o);
  EXPECT_EQ(gate.allowed_origin("https://app.example"), "https://app.example");
  EXPECT_EQ(gate.allowed_origin("https://evil.example"), std::nullopt);
  o.cors_origins = {"*"};
  EXPECT_EQ(origin_status(o, "localhost:8000", "http://any.example"), 0);
}

TEST(Gate, RateRefillsWithTime) {
  ServerOptions o;
  o.rate_limit = 2;
  Gate gate(o);
  const std::chrono::steady_clock::time_point start{};
  const auto status = [&](const char* client, int ms) {
    return refusal([&] { gate.check_rate(client, start + milliseconds(ms)); }).status;
  };
  EXPECT_EQ(status("a", 0), 0);
  EXPECT_EQ(status("a", 0), 0);
  EXPECT_EQ(status("a", 0), 429);
  EXPECT_EQ(status("b", 0), 0);  // has its own
  EXPECT_EQ(status("a", 499), 429);
  EXPECT_EQ(status("a", 501), 0);
  EXPECT_EQ(status("a", 502), 429);
  EXPECT_EQ(status("a", 100000), 0);
  EXPECT_EQ(status("a", 100000), 0);
  EXPECT_EQ(status("a", 100000), 429);  // no more than a second's worth is saved up
}

TEST(Gate, ManyClientsDoNotFillTheMemory) {
  ServerOptions o;
  o.rate_limit = 1;
  Gate gate(o);
  const std::chrono::steady_clock::time_point start{};
  for (int i = 0; i < 200000; ++i) gate.check_rate(std::to_string(i), start);
  gate.check_rate("199999x", start);
  EXPECT_EQ(refusal([&] { gate.check_rate("199999x", start); }).status, 429);
}

TEST(Gate, OpenAddressesNeedADecision) {
  const auto message = [](const ServerOptions& o) {
    try {
      Gate::check_options(o);
    } catch (const InvalidInput& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  ServerOptions o;
  for (const char* host : {"127.0.0.1", "127.0.0.2", "localhost", "::1"}) {
    o.host = host;
    EXPECT_EQ(message(o), "") << host;
  }
  for (const char* host : {"0.0.0.0", "::", "192.168.1.2", "127.evil.example"}) {
    o.host = host;
    EXPECT_THAT(message(o), HasSubstr("--no-auth")) << host;
  }
  o.no_auth = true;
  EXPECT_EQ(message(o), "");
  o.no_auth = false;
  o.api_keys = {"k"};
  EXPECT_EQ(message(o), "");
  o.api_keys = {""};
  EXPECT_THAT(message(o), HasSubstr("empty"));
  o.api_keys.clear();
  o.host = "localhost";
  o.tls_cert = "cert.pem";
  EXPECT_THAT(message(o), HasSubstr("--tls-key"));
}

}  // namespace
}  // namespace comet::server
