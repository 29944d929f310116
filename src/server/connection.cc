// SPDX-License-Identifier: Apache-2.0
#include "server/connection.h"

#include <poll.h>

#include <algorithm>
#include <optional>
#include <random>

#include "base/check.h"
#include "server/asio.h"
#include "server/routes.h"

namespace comet::server {
namespace {

using namespace asio::experimental::awaitable_operators;
using Clock = std::chrono::steady_clock;

// g++ 12 destroys some temporaries of a co_await expression twice: what has a destructor gets a name first.

constexpr size_t kMaxWrite = 32 << 10;  // bytes of events in one chunk
constexpr std::chrono::seconds kLinger{2};
constexpr std::chrono::milliseconds kLookInterval{100};
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

Clock::duration ticks(Seconds s) { return std::chrono::duration_cast<Clock::duration>(s); }

std::string_view text_of(beast::string_view s) { return {s.data(), s.size()}; }

std::string random_id() {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("{:016x}{:016x}", random(), random());
}

// A client's own id when it is short and printable.
std::string request_id(std::string_view given) {
  const bool is_good = !given.empty() && given.size() <= 128 &&
                       std::all_of(given.begin(), given.end(), [](char c) { return c > ' ' && c < 127; });
  return is_good ? std::string(given) : random_id();
}

asio::awaitable<bool> shake_hands(beast::tcp_stream&) { co_return true; }

asio::awaitable<bool> shake_hands(beast::ssl_stream<beast::tcp_stream>& stream) {
  const auto [ec] = co_await stream.async_handshake(asio::ssl::stream_base::server, kAwaitTuple);
  co_return !ec;
}

asio::awaitable<void> shut_down(beast::tcp_stream& stream) {
  boost::system::error_code ignored;
  stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
  co_return;
}

asio::awaitable<void> shut_down(beast::ssl_stream<beast::tcp_stream>& stream) {
  co_await stream.async_shutdown(kAwaitTuple);
}

template <typename Stream>
class HttpConnection final : public Shared::Connection {
 public:
  HttpConnection(Shared& shared, Stream stream) : shared_(shared), stream_(std::move(stream)) {
    boost::system::error_code ec;
    const auto peer = tcp_stream().socket().remote_endpoint(ec);
    if (!ec) peer_ = peer.address().to_string();
    shared_.connections.insert(this);
  }
  ~HttpConnection() override {
    if (wakeup_) wakeup_->detach();
    shared_.connections.erase(this);
  }

  asio::awaitable<void> run() {
    tcp_stream().expires_after(ticks(options().header_timeout));
    bool goes_on = co_await shake_hands(stream_);
    while (goes_on) {
      goes_on = co_await read_header();
      if (goes_on) goes_on = co_await answer();
    }
    tcp_stream().expires_after(kLinger);
    co_await shut_down(stream_);
  }

  void close_if_idle() override {
    if (is_idle_) close();
  }
  void end_request() override {
    is_ending_ = true;
    if (active_) active_->cancel();
    if (wakeup_) wakeup_->notify();
  }
  void close() override {
    end_request();
    tcp_stream().close();
  }

 private:
  const ServerOptions& options() const { return shared_.options; }
  beast::tcp_stream& tcp_stream() { return beast::get_lowest_layer(stream_); }
  const http::request_header<>& head() const { return parser_->get(); }

  // False when the client has nothing more to say, or not in time, or nothing that is HTTP.
  asio::awaitable<bool> read_header() {
    const Service::State state = shared_.service.state();
    if (state == Service::State::draining || state == Service::State::failed) co_return false;
    is_idle_ = true;
    method_.clear();
    route_.clear();
    parser_.emplace();
    parser_->header_limit(static_cast<std::uint32_t>(options().max_header_bytes));
    parser_->body_limit(options().max_body_bytes);
    if (buffer_.size() == 0) {
      tcp_stream().expires_after(ticks(options().idle_timeout));
      const auto [ec, n] = co_await stream_.async_read_some(buffer_.prepare(4096), kAwaitTuple);
      if (ec) co_return false;
      buffer_.commit(n);
    }
    start_ = Clock::now();
    id_.clear();
    tcp_stream().expires_after(ticks(options().header_timeout));
    const auto [ec, n] = co_await http::async_read_header(stream_, buffer_, *parser_, kAwaitTuple);
    is_idle_ = false;
    if (!ec) co_return true;
    if (is_http_error(ec)) co_await refuse_unread(ec);
    co_return false;
  }

  static bool is_http_error(const boost::system::error_code& ec) {
    return ec != http::error::end_of_stream && ec != http::error::partial_message &&
           ec.category() == make_error_code(http::error::bad_method).category();
  }

  // What is on the wire is no request that can be read: one answer, then the end.
  asio::awaitable<void> refuse_unread(boost::system::error_code ec) {
    if (id_.empty()) id_ = random_id();
    is_readable_ = false;
    Reply reply = error_reply(unread_error(ec));
    co_await send(reply);
  }

  ApiError unread_error(boost::system::error_code ec) const {
    if (ec == http::error::body_limit)
      return {413, "body_too_large", fmt::format("the body is above {} bytes", options().max_body_bytes)};
    if (ec == http::error::header_limit)
      return {431, "header_too_large", fmt::format("the header is above {} bytes", options().max_header_bytes)};
    return {400, "bad_request", "this is not HTTP: " + ec.message()};
  }

  // True when another request may follow.
  asio::awaitable<bool> answer() {
    id_ = request_id(text_of(head()["X-Request-Id"]));
    is_readable_ = true;
    is_ending_ = is_gone_ = false;
    active_.reset();
    target_ = std::string(text_of(head().target()));
    method_ = std::string(text_of(head().method_string()));
    std::optional<Reply> reply;
    try {
      const Route& route = admit();
      route_ = route.path;
      if (!co_await read_body()) co_return false;
      if (route.completion) {
        co_await complete(*route.completion);
        if (active_ && active_->is_streaming() && is_begun_) {
          log(is_gone_ ? 499 : 200);
          is_begun_ = false;
          co_return !is_gone_ && parser_->keep_alive() && !is_ending_;
        }
        if (!is_gone_) reply = json_reply(200, std::move(whole_));
      } else if (!route.takes_body) {
        reply = route.run(shared_.service, {target_, parser_->get().body(), shared_.openapi});
      } else {
        const auto work = [&] { return route.run(shared_.service, {target_, parser_->get().body(), shared_.openapi}); };
        reply = co_await run_on_worker(work);
      }
    } catch (const std::exception& e) {
      const ApiError error = to_api_error(e);
      if (error.status() == 500) shared_.log.event("error", fmt::format("request {}: {}", id_, e.what()));
      reply = error_reply(error);
    }
    if (is_gone_) {
      log(499);
      co_return false;
    }
    co_return co_await send(*reply);
  }

  // Everything that can be said before the body is read.
  const Route& admit() {
    const auto header = [&](auto name) { return text_of(head()[name]); };
    const Credentials c{header(http::field::authorization), header(http::field::host), header(http::field::origin)};
    shared_.gate.check_origin(c);
    const Route& route = find_route(method_, target_);
    client_.clear();
    if (!route.is_public) {
      client_ = shared_.gate.check_key(c);
      shared_.gate.check_rate(client_.empty() ? peer_ : client_, Clock::now());
    }
    if (!route.takes_body) return route;
    const std::string_view type = header(http::field::content_type);
    if (!is_json_type(type))
      throw ApiError(415, "unsupported_media_type", "the body must be sent as Content-Type: application/json");
    return route;
  }

  asio::awaitable<bool> read_body() {
    if (head().version() >= 11 && beast::iequals(head()[http::field::expect], "100-continue")) {
      const auto [ec, n] = co_await asio::async_write(stream_, asio::buffer(kContinue), kAwaitTuple);
      if (ec) co_return false;
    }
    tcp_stream().expires_after(ticks(options().body_timeout));
    const auto [ec, n] = co_await http::async_read(stream_, buffer_, *parser_, kAwaitTuple);
    if (!ec) co_return true;
    if (is_http_error(ec)) co_await refuse_unread(ec);
    co_return false;
  }

  // Work that may take long leaves the io thread to the other connections.
  template <typename Work>
  asio::awaitable<std::invoke_result_t<const Work&>> run_on_worker(const Work& work) {
    std::optional<std::invoke_result_t<const Work&>> result;
    std::exception_ptr error;
    asio::steady_timer done(co_await asio::this_coro::executor, asio::steady_timer::time_point::max());
    asio::post(shared_.workers, [&] {
      try {
        result.emplace(work());
      } catch (...) {
        error = std::current_exception();
      }
      asio::post(done.get_executor(), [&done] { done.cancel(); });
    });
    co_await done.async_wait(kAwaitTuple);
    if (error) std::rethrow_exception(error);
    co_return std::move(*result);
  }

  asio::awaitable<void> complete(Endpoint endpoint) {
    if (wakeup_) wakeup_->detach();
    wakeup_ = std::make_shared<Wakeup>(co_await asio::this_coro::executor);
    const std::string id = (endpoint == Endpoint::chat ? "chatcmpl-" : "cmpl-") + id_;
    tcp_stream().expires_never();
    const auto start = [&] {
      CompletionRequest request = parse_completion_request(endpoint, parse_json(parser_->get().body()),
                                                           shared_.service.model_for_request("").defaults);
      return std::make_unique<ActiveCompletion>(shared_.service, std::move(request), client_, id,
                                                [w = wakeup_] { w->notify(); });
    };
    active_ = co_await run_on_worker(start);
    failure_ = nullptr;
    co_await (pump() || watch_client());
    if (failure_ && !is_gone_) {
      if (!is_begun_) std::rethrow_exception(failure_);
      is_gone_ = true;  // cut off: it does not read
      log_failure();
    }
    if (is_begun_ && !is_gone_) drop_unsent_on_close(false);
    if (!active_->is_streaming() && !is_gone_) whole_ = dump(active_->whole());
    active_->cancel();
  }

  // Tells the client what the engine makes, until all of it is told. Leaves what goes wrong in failure_.
  asio::awaitable<void> pump() {
    try {
      while (true) {
        if (is_ending_) {
          const ApiError why(503, "shutting_down", "the server is shutting down");
          if (!active_->is_streaming() || !is_begun_) throw why;
          const std::string last = active_->closing_events(why);
          co_await write_events(last);
          break;
        }
        std::string events;
        if (active_->is_streaming()) {
          events = active_->poll_events(kMaxWrite);
          if (!is_begun_ && !active_->error().empty()) throw ApiError(500, "generation_failed", active_->error());
          if (!events.empty()) {
            co_await write_events(events);
            continue;
          }
        } else {
          active_->collect();
        }
        if (active_->is_finished()) break;
        const bool is_woken = co_await wakeup_->wait(ticks(options().keep_alive_interval));
        if (!is_woken && active_->is_streaming() && !is_ending_) co_await write_events(": keep-alive\n\n");
      }
      if (is_begun_) co_await write_end();
    } catch (...) {
      failure_ = std::current_exception();
    }
  }

  // While an answer is written, a close (a time-out's, too) drops what the client has not taken: else the kernel would
  // keep it for minutes.
  void drop_unsent_on_close(bool drops) {
    boost::system::error_code ignored;
    tcp_stream().socket().set_option(asio::socket_base::linger(drops, 0), ignored);
  }

  // What failed is the client's connection, or ours to explain.
  void log_failure() {
    try {
      std::rethrow_exception(failure_);
    } catch (const boost::system::system_error&) {
    } catch (const std::exception& e) {
      shared_.log.event("error", fmt::format("request {}: {}", id_, e.what()));
    }
  }

  bool has_client_closed() {
    pollfd fd{.fd = tcp_stream().socket().native_handle(), .events = POLLRDHUP, .revents = 0};
    return ::poll(&fd, 1, 0) > 0 && (fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
  }

  // Returns when the client has closed its side: nobody will read the answer. Bytes that wait to be read (the next
  // request, or TLS's farewell) hide the end behind them: then it is looked for now and then.
  asio::awaitable<void> watch_client() {
    if (buffer_.size() == 0) {
      const auto [ec] = co_await tcp_stream().socket().async_wait(tcp::socket::wait_read, kAwaitTuple);
      if (ec == asio::error::operation_aborted) co_return;  // pump() is through
    }
    asio::steady_timer pause(co_await asio::this_coro::executor);
    while (!has_client_closed()) {
      pause.expires_after(kLookInterval);
      const auto [ec] = co_await pause.async_wait(kAwaitTuple);
      if (ec) co_return;
    }
    is_gone_ = true;
    active_->cancel();
  }

  template <typename Message>
  void set_common(Message& m) {
    m.version(head().version());
    m.set("X-Request-Id", id_);
    if (const auto origin = shared_.gate.allowed_origin(text_of(head()[http::field::origin]));
        origin && !head()[http::field::origin].empty()) {
      m.set(http::field::access_control_allow_origin, *origin);
      m.set(http::field::vary, "Origin");
    }
  }

  asio::awaitable<void> write_events(std::string_view events) {
    tcp_stream().expires_after(ticks(options().write_timeout));
    if (!is_begun_) {
      http::response<http::empty_body> head_only{http::status::ok, head().version()};
      set_common(head_only);
      head_only.set(http::field::content_type, "text/event-stream; charset=utf-8");
      head_only.set(http::field::cache_control, "no-store");
      head_only.set("X-Accel-Buffering", "no");
      head_only.keep_alive(parser_->keep_alive() && head().version() >= 11);
      is_chunked_ = head().version() >= 11;
      if (is_chunked_) head_only.chunked(true);
      http::response_serializer<http::empty_body> serializer{head_only};
      is_begun_ = true;
      drop_unsent_on_close(true);
      co_await http::async_write_header(stream_, serializer, asio::use_awaitable);
    }
    if (is_chunked_)
      co_await asio::async_write(stream_, http::make_chunk(asio::buffer(events)), asio::use_awaitable);
    else
      co_await asio::async_write(stream_, asio::buffer(events), asio::use_awaitable);
    tcp_stream().expires_never();
  }

  asio::awaitable<void> write_end() {
    if (!is_chunked_) {
      is_ending_ = true;  // the connection's end is the answer's
      co_return;
    }
    tcp_stream().expires_after(ticks(options().write_timeout));
    co_await asio::async_write(stream_, http::make_chunk_last(), asio::use_awaitable);
  }

  // True when another request may follow.
  asio::awaitable<bool> send(Reply& reply) {
    const bool is_complete = is_readable_ && parser_->is_done();
    http::response<http::string_body> message{static_cast<http::status>(reply.status), 11};
    if (is_readable_) set_common(message);
    message.set("X-Request-Id", id_);
    message.set(http::field::content_type, reply.content_type);
    if (reply.status == 429 || reply.status == 503) message.set(http::field::retry_after, "1");
    if (reply.status == 401) message.set(http::field::www_authenticate, "Bearer");
    if (!reply.allow.empty()) message.set(http::field::allow, reply.allow);
    if (reply.is_preflight) {
      message.set(http::field::access_control_allow_methods, "GET, POST");
      message.set(http::field::access_control_allow_headers, "Authorization, Content-Type, *");
    }
    const Service::State state = shared_.service.state();
    const bool keeps =
        is_complete && parser_->keep_alive() && state != Service::State::draining && state != Service::State::failed;
    message.keep_alive(keeps);
    message.body() = std::move(reply.body);
    message.prepare_payload();
    if (method_ == "HEAD") {  // Content-Length stays
      message.body().clear();
    }
    tcp_stream().expires_after(ticks(options().write_timeout));
    drop_unsent_on_close(true);
    const auto [ec, n] = co_await http::async_write(stream_, message, kAwaitTuple);
    if (!ec) drop_unsent_on_close(false);
    log(ec ? 499 : reply.status);
    if (!ec && !is_complete) co_await linger();
    co_return !ec && keeps;
  }

  // A close with bytes unread would take the answer away from the client: it may first finish sending.
  asio::awaitable<void> linger() {
    boost::system::error_code ignored;
    tcp_stream().socket().shutdown(tcp::socket::shutdown_send, ignored);
    tcp_stream().expires_after(kLinger);
    std::array<char, 8192> scrap;
    for (size_t total = 0; total < (size_t{1} << 20);) {
      const auto [ec, n] = co_await tcp_stream().async_read_some(asio::buffer(scrap), kAwaitTuple);
      if (ec) break;
      total += n;
    }
  }

  void log(int status) {
    Json line = {{"request_id", id_}, {"peer", peer_},
                 {"method", method_}, {"path", route_.empty() ? Json() : Json(route_)},
                 {"status", status},  {"ms", std::chrono::duration<double, std::milli>(Clock::now() - start_).count()}};
    if (active_) {
      line["prompt_tokens"] = active_->usage().num_prompt;
      line["cached_tokens"] = active_->usage().num_cached;
      line["completion_tokens"] = active_->usage().num_output;
      line["finish_reason"] = active_->finish_reason();
    }
    shared_.log.request(line);
    if (shared_.service.metrics() != nullptr)
      shared_.service.metrics()->answered(route_.empty() ? "other" : route_, status);
    active_.reset();
    route_.clear();
  }

  Shared& shared_;
  Stream stream_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  std::string peer_, id_, method_, target_, route_, client_, whole_;
  Clock::time_point start_;
  std::unique_ptr<ActiveCompletion> active_;
  std::shared_ptr<Wakeup> wakeup_;
  std::exception_ptr failure_;
  bool is_idle_ = false;
  bool is_readable_ = false;  // parser_ has a header
  bool is_begun_ = false;     // the head of a stream has been sent
  bool is_chunked_ = false;
  bool is_ending_ = false;  // the server wants this request to end
  bool is_gone_ = false;    // the client is away, or was cut off
};

}  // namespace

asio::awaitable<void> run_connection(Shared& shared, beast::tcp_stream stream) {
  HttpConnection connection(shared, std::move(stream));
  co_await connection.run();
}

asio::awaitable<void> run_connection(Shared& shared, beast::ssl_stream<beast::tcp_stream> stream) {
  HttpConnection connection(shared, std::move(stream));
  co_await connection.run();
}

}  // namespace comet::server
