// SPDX-License-Identifier: Apache-2.0
#include "loadgen/probe.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/check.h"
#include "loadgen/asio.h"
#include "loadgen/sse.h"

namespace comet::loadgen {
namespace {

using Json = nlohmann::json;

constexpr double kProbeTimeout = 10;  // seconds
constexpr std::chrono::milliseconds kRetryInterval{200};

struct Exchange {
  boost::system::error_code ec;
  http::response_parser<http::string_body> parser;
};

asio::awaitable<void> exchange(tcp::socket& socket, const BaseUrl& url, const std::string& request, Exchange& out) {
  tcp::resolver resolver(socket.get_executor());
  const auto [resolve_error, found] =
      co_await resolver.async_resolve(url.host, url.port, tcp::resolver::numeric_service, kAwaitTuple);
  out.ec = resolve_error;
  if (out.ec) co_return;
  const auto [connect_error, endpoint] = co_await asio::async_connect(socket, found, kAwaitTuple);
  out.ec = connect_error;
  if (out.ec) co_return;
  const auto [write_error, written] = co_await asio::async_write(socket, asio::buffer(request), kAwaitTuple);
  out.ec = write_error;
  if (out.ec) co_return;
  beast::flat_buffer buffer;
  const auto [read_error, read] = co_await http::async_read(socket, buffer, out.parser, kAwaitTuple);
  out.ec = read_error;
}

int whole_number(const Json& object, const char* name) {
  const auto it = object.find(name);
  const bool is_good = it != object.end() && it->is_number_integer() && *it > 0 && *it <= INT32_MAX;
  return is_good ? it->get<int>() : 0;
}

ServerInfo parse_model(const Json& entry) {
  ServerInfo info{.model = entry["id"].get<std::string>(),
                  .context = whole_number(entry, "max_model_len"),
                  .vocab_size = whole_number(entry, "vocab_size")};
  const auto meta = entry.find("meta");  // llama.cpp's; its n_ctx_train is not what the server was started with
  if (info.vocab_size == 0 && meta != entry.end() && meta->is_object())
    info.vocab_size = whole_number(*meta, "n_vocab");
  return info;
}

}  // namespace

Answer get(const BaseUrl& url, const std::string& path, const std::string& api_key, double timeout_s) {
  asio::io_context io{1};
  tcp::socket socket(io);
  Exchange result;
  bool is_done = false;
  const std::string request = get_request(url, path, api_key);
  asio::co_spawn(io, exchange(socket, url, request, result), [&](std::exception_ptr) { is_done = true; });
  io.run_for(std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::duration<double>(timeout_s)));
  if (!is_done) throw_invalid("{} does not answer within {} s", url.text(), timeout_s);
  if (result.ec.category() == http::make_error_code(http::error::bad_method).category())
    throw_invalid("{} does not speak HTTP: {}", url.text(), result.ec.message());
  if (result.ec) throw_invalid("cannot reach {}: {}", url.text(), result.ec.message());
  return {.status = static_cast<int>(result.parser.get().result_int()), .body = std::move(result.parser.get().body())};
}

ServerInfo parse_models(const std::string& body, const std::string& wanted_model) {
  const Json json = Json::parse(body, nullptr, false);
  const Json list = json.is_object() && json.contains("data") ? json["data"] : Json();
  std::string names;
  if (list.is_array())
    for (const Json& entry : list) {
      if (!entry.is_object() || !entry.contains("id") || !entry["id"].is_string()) continue;
      const ServerInfo info = parse_model(entry);
      if (wanted_model.empty() || info.model == wanted_model) return info;
      names += (names.empty() ? "" : ", ") + info.model;
    }
  if (names.empty()) throw_invalid("/v1/models lists no model: is this a server of OpenAI's API?");
  throw_invalid("the server has no model {}; it has {}", wanted_model, names);
}

ServerInfo probe(const BaseUrl& url, const api::BenchServeOptions& options) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(options.wait_s);
  while (true) {
    const bool is_last = std::chrono::steady_clock::now() >= end;
    try {
      const Answer answer = get(url, "/v1/models", options.api_key, kProbeTimeout);
      if (answer.status == 200) return parse_models(answer.body, options.model);
      const std::string why = parse_error(answer.body).message;
      if (answer.status == 401 || answer.status == 403)
        throw Unsupported(fmt::format("{} says {}: {}; give its key with COMET_API_KEY or --api-key", url.text(),
                                      answer.status, why));
      if (answer.status == 404)
        throw Unsupported(
            fmt::format("{} has no /v1/models (404): is this the base URL of a server of OpenAI's API?", url.text()));
      throw_invalid("{} is not ready: {} {}; --wait SECONDS waits for it", url.text(), answer.status, why);
    } catch (const Unsupported&) {
      throw;  // nothing that waiting changes
    } catch (const InvalidInput&) {
      if (is_last) throw;
    }
    std::this_thread::sleep_for(kRetryInterval);
  }
}

}  // namespace comet::loadgen
