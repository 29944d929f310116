// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 over TCP or TLS: connections, limits, routes, graceful end.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "server/options.h"
#include "server/service.h"

namespace comet::server {

class HttpServer {
 public:
  // Throws InvalidInput for options that do not go together, a certificate that cannot be read, an address that is
  // taken. Listens from here on; until serve() clients wait.
  HttpServer(const ServerOptions& options, std::string version);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;
  std::string url() const;

  // Handles connections on the calling thread until SIGTERM, SIGINT or a failure of the engine has been followed by the
  // end of all open requests or of options.drain_timeout; a second signal ends at once. `load` runs on a thread of its
  // own and gives the model; it may throw once is_stopping is true; else what it throws leaves through here. Throws
  // Error with the engine's failure.
  void serve(const std::function<ServedModel(const std::atomic<bool>& is_stopping)>& load);

  const Service& service() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace comet::server
