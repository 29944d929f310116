// SPDX-License-Identifier: Apache-2.0
// Paths, methods, content types, JSON texts, errors, and the OpenAPI document.
#include "server/routes.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <fstream>
#include <regex>

#include "base/check.h"
#include "refusal.h"
#include "server/openapi.h"
#include "server/schema.h"

namespace comet::server {
namespace {

using testing::HasSubstr;

TEST(Routes, FindsWhatThereIs) {
  EXPECT_EQ(find_route("POST", "/v1/chat/completions").completion, Endpoint::chat);
  EXPECT_EQ(find_route("POST", "/v1/completions?x=1").completion, Endpoint::completions);
  EXPECT_TRUE(find_route("GET", "/health").is_public);
  EXPECT_TRUE(find_route("GET", "/ready").is_public);
  EXPECT_STREQ(find_route("HEAD", "/version").path, "/version");
  EXPECT_TRUE(find_route("OPTIONS", "/anything").is_public);
  EXPECT_STREQ(find_route("GET", "/v1/models?x").path, "/v1/models");
  for (const char* path : {"/v1/models/a", "/v1/models/org/name?x=1", "/v1/models/%2F", "/v1/models/%"})
    EXPECT_STREQ(find_route("GET", path).path, "/v1/models/{id}") << path;
}

TEST(Routes, NotFoundAndWrongMethod) {
  for (const char* path : {"/", "", "/v1", "/v1/models/", "/v1/models/?x", "/v1/completions/", "/V1/completions",
                           "/health/../metrics", "//health", "*"})
    EXPECT_EQ(refusal([&] { find_route("GET", path); }).status, 404) << path;
  const struct {
    const char *method, *path, *allow;
  } wrong[] = {{"GET", "/v1/completions", "POST"}, {"POST", "/health", "GET"},    {"DELETE", "/v1/models/a", "GET"},
               {"PUT", "/tokenize", "POST"},       {"HEAD", "/tokenize", "POST"}, {"get", "/health", "GET"}};
  for (const auto& w : wrong) {
    const Refusal r = refusal([&] { find_route(w.method, w.path); });
    EXPECT_EQ(r.status, 405) << w.method << w.path;
    EXPECT_EQ(error_reply(ApiError(405, r.code, r.message, r.param)).allow, w.allow);
  }
}

TEST(Routes, ContentTypes) {
  for (const char* good :
       {"application/json", "application/json; charset=utf-8", "APPLICATION/JSON ;x", "application/vnd.api+json"})
    EXPECT_TRUE(is_json_type(good)) << good;
  for (const char* bad : {"", "text/plain", "text/json", "application/jsonx", "application/x-www-form-urlencoded",
                          "multipart/form-data; application/json"})
    EXPECT_FALSE(is_json_type(bad)) << bad;
}

TEST(Routes, JsonTexts) {
  EXPECT_EQ(parse_json(R"({"a":[1,"[[{"]})")["a"][0], 1);
  for (const std::string& bad :
       {std::string(), std::string("{"), std::string("{\"a\":1,}"), std::string("nan"), std::string("\"\xff\""),
        std::string("1e999"), std::string("{} x"), std::string("\0", 1)}) {
    const Refusal r = refusal([&] { parse_json(bad); });
    EXPECT_EQ(r.status, 400) << bad;
    EXPECT_EQ(r.code, "invalid_json");
  }
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_EQ(refusal([&] { parse_json(nested(64)); }).status, 0);
  EXPECT_EQ(refusal([&] { parse_json(nested(65)); }).status, 400);
  EXPECT_EQ(refusal([&] { parse_json(std::string(10'000'000, '[')); }).status, 400);
  EXPECT_EQ(refusal([&] { parse_json("]]]" + std::string(100, '[')); }).status, 400);
  const auto with_members = [](int count) {
    std::string text = R"({"x":{"y":1},"list":[{"z":":::"}])";
    for (int i = 2; i < count; ++i) text += fmt::format(",\"{}\":1", i);
    return text + "}";
  };
  EXPECT_EQ(parse_json(with_members(1024)).size(), 1024u);
  EXPECT_THAT(refusal([&] { parse_json(with_members(1025)); }).message, HasSubstr("more than 1024 members"));
  EXPECT_EQ(refusal([&] { parse_json(fmt::format("\"{:[>100}\"", "")); }).status, 0);
  EXPECT_EQ(refusal([&] { parse_json(fmt::format("\"\\\"{:[>100}\"", "")); }).status, 0);
}

TEST(Errors, HaveOpenAiShape) {
  EXPECT_EQ(
      to_json(ApiError(404, "model_not_found", "no", "model")),
      Json::parse(R"({"error":{"message":"no","type":"not_found_error","param":"model","code":"model_not_found"}})"));
  EXPECT_EQ(to_json(ApiError(503, "", "no"))["error"]["param"], nullptr);
  const std::map<int, std::string> types = {{400, "invalid_request_error"}, {401, "authentication_error"},
                                            {403, "permission_error"},      {429, "rate_limit_error"},
                                            {413, "invalid_request_error"}, {500, "server_error"},
                                            {503, "server_error"}};
  for (const auto& [status, type] : types) EXPECT_EQ(to_json(ApiError(status, "c", "m"))["error"]["type"], type);
}

TEST(Errors, InternalOnesKeepTheirDetails) {
  const ApiError internal = to_api_error(std::runtime_error("secret path"));
  EXPECT_EQ(internal.status(), 500);
  EXPECT_THAT(internal.what(), testing::Not(HasSubstr("secret")));
  EXPECT_EQ(to_api_error(InvalidInput("too long")).status(), 400);
  EXPECT_EQ(to_api_error(InvalidParameter("n", "n is 0")).param(), "n");
  EXPECT_EQ(to_api_error(ApiError(409, "c", "m")).status(), 409);
}

TEST(OpenApi, HasEveryRoute) {
  const Json document = openapi_document("1.2.3", true);
  EXPECT_EQ(document["openapi"], "3.1.0");
  EXPECT_EQ(document["info"]["version"], "1.2.3");
  size_t count = 0;
  for (const auto& [path, operations] : document["paths"].items())
    for (const auto& [method, operation] : operations.items()) {
      ++count;
      const Route& route = find_route(method == "get" ? "GET" : "POST", path);
      EXPECT_EQ(operation.contains("requestBody"), route.takes_body) << path;
      EXPECT_EQ(operation.contains("security"), !route.is_public) << path;
      EXPECT_FALSE(operation["summary"].get<std::string>().empty());
      for (const char* status : {"200", "4XX", "503"}) EXPECT_TRUE(operation["responses"].contains(status)) << path;
    }
  EXPECT_EQ(count, 12u);
}

// Every body after -d '...' in the documentation is one that the schema lets through.
TEST(OpenApi, SchemaTakesTheDocumentedExamples) {
  const Json document = openapi_document("1", false);
  int count = 0;
  for (const char* name : {"README.md", "docs/server.md"}) {
    std::ifstream in(std::string(COMET_SOURCE_DIR) + "/" + name);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    static const std::regex example(R"re((/v1/[a-z/]+|/tokenize|/detokenize)[^']*'[^']*'[^']*-d '([^']+)')re");
    for (auto it = std::sregex_iterator(text.begin(), text.end(), example); it != std::sregex_iterator(); ++it) {
      const Json& schema =
          document.at("paths").at((*it)[1]).at("post").at("requestBody").at("content").at("application/json")["schema"];
      const Refusal r = refusal([&] { check_schema(Json::parse((*it)[2].str()), schema, ""); });
      EXPECT_EQ(r.status, 0) << name << ": " << (*it)[2] << r;
      ++count;
    }
  }
  EXPECT_GE(count, 2);
}

TEST(OpenApi, EveryFieldIsDocumented) {
  std::ifstream in(std::string(COMET_SOURCE_DIR) + "/docs/server.md");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  for (const Endpoint endpoint : {Endpoint::chat, Endpoint::completions}) {
    const Json schema = completion_request_schema(endpoint);
    for (const auto& [name, field] : schema["properties"].items())
      EXPECT_TRUE(field.value("type", "") == "null" || text.find("\n| `" + name + "`") != std::string::npos) << name;
  }
  const Json document = openapi_document("1", false);
  for (const auto& [path, unused] : document["paths"].items()) EXPECT_THAT(text, HasSubstr(" " + path + "`"));
}

}  // namespace
}  // namespace comet::server
