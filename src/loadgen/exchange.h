// SPDX-License-Identifier: Apache-2.0
// One request and its stream of events on a connection.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "loadgen/asio.h"
#include "loadgen/record.h"

namespace comet::loadgen {

using Clock = std::chrono::steady_clock;

struct Connection {
  explicit Connection(asio::io_context& io) : socket(io) {}

  // What waits for it fails; where nothing has been awaited yet, what comes next fails.
  void close() {
    is_closed = true;
    boost::system::error_code ignored;
    socket.close(ignored);
  }

  tcp::socket socket;
  beast::flat_buffer buffer;
  bool is_used = false, is_closed = false, is_timed_out = false;
};

struct Exchange {
  const std::vector<tcp::endpoint>& endpoints;
  const std::string& bytes;  // the whole request
  Clock::time_point begin;   // of the record's times
};

enum class Outcome {
  reusable,   // the answer has ended and another request may follow
  closed,     // the connection is of no more use
  not_taken,  // it was an idle one that the server had closed: nothing was answered, send it again
};

// Fills the record, whose status is completed or failed then, unless it was not taken. Connects first if need be.
asio::awaitable<Outcome> exchange_on(Connection& connection, const Exchange& exchange, RequestRecord& record);

}  // namespace comet::loadgen
