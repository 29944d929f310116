// SPDX-License-Identifier: Apache-2.0
#include "server/http_server.h"

#include <boost/asio/signal_set.hpp>
#include <boost/asio/ssl.hpp>
#include <csignal>
#include <thread>

#include "base/check.h"
#include "base/process.h"
#include "server/asio.h"
#include "server/connection.h"
#include "server/openapi.h"
#include "server/routes.h"

namespace comet::server {
namespace {

constexpr int kNumWorkers = 2;
constexpr std::chrono::milliseconds kLookInterval{50};

// What is said about the address that cannot be had.
[[noreturn]] void refuse_address(const ServerOptions& o, const boost::system::error_code& ec) {
  throw_invalid("cannot listen on {}:{}: {}", o.host, o.port, ec.message());
}

}  // namespace

struct HttpServer::State {
  State(const ServerOptions& o, const std::string& version)
      : options((Gate::check_options(o), o)),
        service(options, version),
        gate(options),
        log(options.log_file, options.log_requests),
        shared{.options = options,
               .service = service,
               .gate = gate,
               .log = log,
               .workers = workers,
               .openapi = dump(openapi_document(version, !options.api_keys.empty()))} {}

  void listen() {
    raise_descriptor_limit();
    boost::system::error_code ec;
    const auto found = tcp::resolver(io).resolve(options.host, std::to_string(options.port),
                                                 tcp::resolver::passive | tcp::resolver::numeric_service, ec);
    if (ec || found.empty()) refuse_address(options, ec);
    const tcp::endpoint endpoint = found.begin()->endpoint();
    const auto check = [&] {
      if (ec) refuse_address(options, ec);
    };
    acceptor.open(endpoint.protocol(), ec), check();
    acceptor.set_option(asio::socket_base::reuse_address(true), ec), check();
    acceptor.bind(endpoint, ec), check();
    acceptor.listen(asio::socket_base::max_listen_connections, ec), check();
    signals.add(SIGTERM);
    signals.add(SIGINT);
  }

  void load_certificate() {
    if (options.tls_cert.empty()) return;
    tls.emplace(asio::ssl::context::tls_server);
    tls->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                     asio::ssl::context::no_tlsv1_1);
    boost::system::error_code ec;
    tls->use_certificate_chain_file(options.tls_cert, ec);
    if (ec) throw_invalid("cannot read the certificate {}: {}", options.tls_cert, ec.message());
    tls->use_private_key_file(options.tls_key, asio::ssl::context::pem, ec);
    if (ec) throw_invalid("cannot read the key {}: {}", options.tls_key, ec.message());
  }

  asio::awaitable<void> accept() {
    while (true) {
      auto [ec, socket] = co_await acceptor.async_accept(kAwaitTuple);
      if (ec == asio::error::operation_aborted) co_return;
      if (ec) {  // no descriptors left, or a client that is gone again
        asio::steady_timer pause(io, kLookInterval);
        co_await pause.async_wait(kAwaitTuple);
        continue;
      }
      if (shared.connections.size() >= static_cast<size_t>(options.max_connections)) continue;  // closes it
      start_connection(std::move(socket));
    }
  }

  void start_connection(tcp::socket socket) {
    boost::system::error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    socket.set_option(asio::socket_base::send_buffer_size(static_cast<int>(options.send_buffer)), ignored);
    const auto report = [this](std::exception_ptr e) {  // a connection's failure is its own
      try {
        if (e) std::rethrow_exception(e);
      } catch (const boost::system::system_error&) {  // the client went away
      } catch (const std::exception& error) {
        log.event("error", fmt::format("connection: {}", error.what()));
      }
    };
    beast::tcp_stream stream(std::move(socket));
    if (tls)
      asio::co_spawn(io, run_connection(shared, beast::ssl_stream<beast::tcp_stream>(std::move(stream), *tls)), report);
    else
      asio::co_spawn(io, run_connection(shared, std::move(stream)), report);
  }

  // A signal or the engine's failure begins the end.
  asio::awaitable<void> watch() {
    asio::steady_timer timer(io);
    while (num_signals == 0 && service.state() != Service::State::failed && !load_error) {
      timer.expires_after(kLookInterval);
      co_await timer.async_wait(kAwaitTuple);
    }
    const bool has_failed = service.state() == Service::State::failed;
    if (has_failed)
      log.event("error", service.failure());
    else
      log.event("info", "shutting down");
    is_stopping = true;
    if (!has_failed) service.set_state(Service::State::draining);
    boost::system::error_code ignored;
    acceptor.close(ignored);
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                               has_failed || load_error ? Seconds(1) : options.drain_timeout);
    bool has_ended_requests = false;
    auto last = end + std::chrono::seconds(2);  // for the replies of requests that were ended
    while (!shared.connections.empty() && num_signals < 2 && std::chrono::steady_clock::now() < last) {
      for_each_connection(&Shared::Connection::close_if_idle);
      if (!has_ended_requests && std::chrono::steady_clock::now() >= end) {
        has_ended_requests = true;
        for_each_connection(&Shared::Connection::end_request);
      }
      timer.expires_after(kLookInterval);
      co_await timer.async_wait(kAwaitTuple);
    }
    for_each_connection(&Shared::Connection::close);
    signals.cancel();
    is_over = true;
  }

  void for_each_connection(void (Shared::Connection::*act)()) {
    const std::set<Shared::Connection*> all = shared.connections;  // acting may end some
    for (Shared::Connection* c : all)
      if (shared.connections.contains(c)) (c->*act)();
  }

  asio::awaitable<void> count_signals() {
    while (true) {
      const auto [ec, number] = co_await signals.async_wait(kAwaitTuple);
      if (ec) co_return;
      num_signals += 1;
    }
  }

  ServerOptions options;
  asio::io_context io{1};
  asio::thread_pool workers{kNumWorkers};
  Service service;
  Gate gate;
  RequestLog log;
  Shared shared;
  tcp::acceptor acceptor{io};
  asio::signal_set signals{io};
  std::optional<asio::ssl::context> tls;
  std::atomic<bool> load_error{false}, is_stopping{false};
  int num_signals = 0;
  bool is_over = false;
};

HttpServer::HttpServer(const ServerOptions& options, std::string version)
    : state_(std::make_unique<State>(options, version)) {
  state_->load_certificate();
  state_->listen();
}

HttpServer::~HttpServer() { state_->workers.join(); }

uint16_t HttpServer::port() const { return state_->acceptor.local_endpoint().port(); }

std::string HttpServer::url() const {
  const bool is_v6 = state_->options.host.find(':') != std::string::npos;
  return fmt::format("{}://{}:{}", state_->tls ? "https" : "http",
                     is_v6 ? "[" + state_->options.host + "]" : state_->options.host, port());
}

const Service& HttpServer::service() const { return state_->service; }

void HttpServer::serve(const std::function<ServedModel(const std::atomic<bool>& is_stopping)>& load) {
  State& s = *state_;
  std::exception_ptr error;
  std::thread loader([&] {
    try {
      ServedModel model = load(s.is_stopping);
      asio::post(s.io, [&s, m = std::move(model)]() mutable {
        if (s.service.state() == Service::State::loading) s.service.set_model(std::move(m));
      });
    } catch (...) {
      if (s.is_stopping) return;  // by request
      error = std::current_exception();
      s.load_error = true;
    }
  });
  asio::co_spawn(s.io, s.accept(), asio::detached);
  asio::co_spawn(s.io, s.count_signals(), asio::detached);
  asio::co_spawn(s.io, s.watch(), asio::detached);
  s.io.run();
  loader.join();
  if (error) std::rethrow_exception(error);
  if (const std::string why = s.service.failure(); !why.empty()) throw Error(why);
}

}  // namespace comet::server
