// SPDX-License-Identifier: Apache-2.0
// The parts of Boost.Asio and Beast that the server uses.
#pragma once

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
#include <mutex>
#include <optional>
#include <utility>

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
    std::lock_guard lock(mutex_);
    if (is_set_ || !timer_) return;
    is_set_ = true;
    asio::post(timer_->get_executor(), [self = shared_from_this()] {
      if (self->timer_) self->timer_->cancel();
    });
  }
  // The io thread: notify() does nothing from here on. The engine may call it when the io thread is long gone.
  void detach() {
    std::lock_guard lock(mutex_);
    timer_.reset();
  }
  // The io thread. False when the time ran out.
  asio::awaitable<bool> wait(std::chrono::steady_clock::duration most) {
    if (take()) co_return true;
    timer_->expires_after(most);
    const auto [ec] = co_await timer_->async_wait(kAwaitTuple);
    take();
    co_return ec == asio::error::operation_aborted;
  }

 private:
  bool take() {
    std::lock_guard lock(mutex_);
    return std::exchange(is_set_, false);
  }

  std::mutex mutex_;
  std::optional<asio::steady_timer> timer_;
  bool is_set_ = false;
};

}  // namespace comet::server
