// SPDX-License-Identifier: Apache-2.0
// The parts of Boost.Asio and Beast that the server uses.
#pragma once

#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <memory>

namespace comet::server {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;

inline constexpr auto kAwaitTuple = asio::as_tuple(asio::use_awaitable);

// Lets a coroutine sleep until another thread has something for it.
class Wakeup : public std::enable_shared_from_this<Wakeup> {
 public:
  explicit Wakeup(asio::any_io_executor executor) : timer_(executor) {}

  // Any thread; wakes the coroutine, or keeps it from falling asleep.
  void notify() {
    if (is_set_.exchange(true)) return;
    asio::post(timer_.get_executor(), [self = shared_from_this()] { self->timer_.cancel(); });
  }
  // False when the time ran out.
  asio::awaitable<bool> wait(std::chrono::steady_clock::duration most) {
    if (!is_set_) {
      timer_.expires_after(most);
      co_await timer_.async_wait(kAwaitTuple);
    }
    co_return is_set_.exchange(false);
  }

 private:
  asio::steady_timer timer_;
  std::atomic<bool> is_set_{false};
};

}  // namespace comet::server
