// SPDX-License-Identifier: Apache-2.0
// One client: reads requests, answers them one after another, notices when it is gone.
#pragma once

#include <memory>
#include <set>

#include "server/asio.h"
#include "server/gate.h"
#include "server/request_log.h"
#include "server/service.h"

namespace comet::server {

// What all connections share. Used on the io thread only, but for the workers.
struct Shared {
  const ServerOptions& options;
  Service& service;
  Gate& gate;
  RequestLog& log;
  asio::thread_pool& workers;  // parsing, templates, tokenization
  std::string openapi;

  // Open connections: how the server reaches them when it ends.
  class Connection {
   public:
    virtual ~Connection() = default;
    virtual void close_if_idle() = 0;  // between two requests
    virtual void end_request() = 0;    // the open one gets its last reply
    virtual void close() = 0;
  };
  std::set<Connection*> connections = {};
};

asio::awaitable<void> run_connection(Shared& shared, beast::tcp_stream stream);
asio::awaitable<void> run_connection(Shared& shared, beast::ssl_stream<beast::tcp_stream> stream);

}  // namespace comet::server
