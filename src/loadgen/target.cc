// SPDX-License-Identifier: Apache-2.0
#include "loadgen/target.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/check.h"

namespace comet::loadgen {
namespace {

using Json = nlohmann::json;

constexpr const char* kExpectedUrl = "expected http://HOST:PORT, such as http://127.0.0.1:8000";

bool is_v6(const std::string& host) { return host.find(':') != std::string::npos; }

std::string host_header(const BaseUrl& u) { return (is_v6(u.host) ? "[" + u.host + "]" : u.host) + ":" + u.port; }

// Lines of a head that both kinds of requests have.
std::string common_head(const BaseUrl& url, const std::string& api_key) {
  const bool is_good = std::all_of(api_key.begin(), api_key.end(), [](char c) { return c > ' ' && c < 127; });
  if (!is_good) throw_invalid("the API key has characters that no header can have");
  std::string head = fmt::format("Host: {}\r\nUser-Agent: comet-bench\r\n", host_header(url));
  if (!api_key.empty()) head += fmt::format("Authorization: Bearer {}\r\n", api_key);
  return head;
}

Json parse_extra_body(const std::string& text) {
  const Json extra = text.empty() ? Json::object() : Json::parse(text, nullptr, false);
  if (!extra.is_object()) throw_invalid("--extra-body is no JSON object: {}", text);
  for (const char* own : {"prompt", "messages", "max_tokens", "stream", "stream_options"})
    if (extra.contains(own)) throw_invalid("--extra-body has {}, which is the benchmark's own", own);
  return extra;
}

}  // namespace

std::string BaseUrl::text() const { return "http://" + host_header(*this) + path; }

BaseUrl parse_base_url(const std::string& text) {
  constexpr std::string_view kScheme = "http://";
  if (text.starts_with("https://"))
    throw_unsupported("{}: TLS is not measured; give the http:// address behind it", text);
  if (!text.starts_with(kScheme)) throw_invalid("--base-url {}: {}", text, kExpectedUrl);
  const std::string rest = text.substr(kScheme.size());
  const size_t slash = std::min(rest.find('/'), rest.size());
  std::string place = rest.substr(0, slash);
  BaseUrl url{.host = {}, .port = "80", .path = rest.substr(slash)};
  while (url.path.ends_with('/')) url.path.pop_back();
  if (url.path.ends_with("/v1")) url.path.resize(url.path.size() - 3);
  while (url.path.ends_with('/')) url.path.pop_back();
  const size_t bracket = place.starts_with('[') ? place.find(']') : std::string::npos;
  const size_t colon = place.find(':', bracket == std::string::npos ? 0 : bracket);
  if (colon != std::string::npos) url.port = place.substr(colon + 1), place.resize(colon);
  url.host = bracket == std::string::npos ? place : place.substr(1, bracket - 1);
  const bool is_number = !url.port.empty() && url.port.size() <= 5 &&
                         std::all_of(url.port.begin(), url.port.end(), [](char c) { return c >= '0' && c <= '9'; });
  const bool is_printable = std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 127; });
  if (url.host.empty() || !is_printable || !is_number || std::stoi(url.port) < 1 || std::stoi(url.port) > 65535)
    throw_invalid("--base-url {}: {}", text, kExpectedUrl);
  return url;
}

Target::Target(const api::BenchServeOptions& o, BaseUrl url, std::string model, int vocab_size)
    : url_(std::move(url)), endpoint_(o.endpoint), vocab_size_(vocab_size) {
  const bool is_chat = endpoint_ == api::BenchEndpoint::chat;
  head_ = fmt::format("POST {}/v1/{} HTTP/1.1\r\n", url_.path, is_chat ? "chat/completions" : "completions") +
          common_head(url_, o.api_key) + "Content-Type: application/json\r\nAccept: text/event-stream\r\n";
  Json fields = {{"model", std::move(model)},
                 {"temperature", o.temperature},
                 {"stream", true},
                 {"stream_options", {{"include_usage", true}}}};
  if (o.ignore_eos) fields["ignore_eos"] = true;
  fields.update(parse_extra_body(o.extra_body));
  fields_ = fields.dump(-1, ' ', false, Json::error_handler_t::replace);
  fields_.pop_back();
}

std::string Target::post(const Request& request) const {
  std::string body = fields_;
  if (endpoint_ == api::BenchEndpoint::chat) {
    body += R"(,"messages":[{"role":"user","content":")" + prompt_text(request) + "\"}]";  // words need no escapes
  } else {
    body += ",\"prompt\":[";
    for (const int32_t id : prompt_ids(request, vocab_size_)) fmt::format_to(std::back_inserter(body), "{},", id);
    body.back() = ']';
  }
  body += fmt::format(",\"max_tokens\":{}}}", request.output_len);
  return fmt::format("{}Content-Length: {}\r\n\r\n{}", head_, body.size(), body);
}

std::string get_request(const BaseUrl& url, const std::string& path, const std::string& api_key) {
  return fmt::format("GET {}{} HTTP/1.1\r\n", url.path, path) + common_head(url, api_key) + "Connection: close\r\n\r\n";
}

}  // namespace comet::loadgen
