// SPDX-License-Identifier: Apache-2.0
#include "loadgen/load.h"

#include <sys/resource.h>

#include <csignal>
#include <map>
#include <memory>

#include "base/check.h"
#include "base/process.h"
#include "loadgen/asio.h"
#include "loadgen/exchange.h"

namespace comet::loadgen {
namespace {

constexpr std::chrono::milliseconds kLookInterval{100};

double cpu_seconds() {
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(u.ru_utime) + seconds(u.ru_stime);
}

class Load {
 public:
  Load(const Target& target, std::span<const Request> requests, const LoadOptions& options,
       const std::function<void(int, int, int)>& progress)
      : target_(target), requests_(requests), options_(options), progress_(progress), outcome_() {
    outcome_.records.resize(requests.size());
    boost::system::error_code ec;
    const BaseUrl& url = target.url();
    for (const auto& entry : tcp::resolver(io_).resolve(url.host, url.port, tcp::resolver::numeric_service, ec))
      endpoints_.push_back(entry.endpoint());
    if (ec || endpoints_.empty()) throw_invalid("cannot reach {}: {}", url.text(), ec.message());
  }

  LoadOutcome run() {
    raise_descriptor_limit();
    const double cpu_before = cpu_seconds();
    begin_ = Clock::now();
    const auto rethrow = [](std::exception_ptr e) {
      if (e) std::rethrow_exception(e);
    };
    asio::co_spawn(io_, dispatch(), rethrow);
    asio::co_spawn(io_, watch_signals(), rethrow);
    asio::co_spawn(io_, watch_time(), rethrow);
    io_.run();
    outcome_.cpu_s = cpu_seconds() - cpu_before;
    outcome_.is_interrupted = is_stopping_;
    for (const RequestRecord& r : outcome_.records)
      if (r.status == RequestRecord::Status::completed || r.status == RequestRecord::Status::failed)
        outcome_.duration_s = std::max(outcome_.duration_s, r.end_s);
    if (is_stopping_) outcome_.duration_s = stopped_s_;
    return std::move(outcome_);
  }

 private:
  double now_s() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

  asio::awaitable<void> dispatch() {
    asio::steady_timer clock(io_);
    for (size_t i = 0; i < requests_.size() && !is_stopping_; ++i) {
      // Written before its time comes, so that long prompts do not delay the schedule.
      std::string bytes = target_.post(requests_[i]);
      if (options_.is_scheduled) {
        outcome_.records[i].planned_s = requests_[i].planned_s;
        const auto due =
            begin_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(requests_[i].planned_s));
        while (Clock::now() < due && !is_stopping_) {
          clock.expires_at(std::min(due, Clock::now() + Clock::duration(kLookInterval)));
          co_await clock.async_wait(kAwaitTuple);
        }
      }
      while (options_.concurrency > 0 && num_open_ >= options_.concurrency && !is_stopping_) co_await wait_for_end();
      if (is_stopping_) break;
      ++num_open_;
      asio::co_spawn(io_, run_request(i, std::move(bytes)), [](std::exception_ptr e) {
        if (e) std::rethrow_exception(e);
      });
    }
    while (num_open_ > 0) co_await wait_for_end();
    is_over_ = true;
    signals_.cancel();
    look_.cancel();
  }

  asio::awaitable<void> wait_for_end() {
    ended_.expires_at(Clock::time_point::max());
    co_await ended_.async_wait(kAwaitTuple);
  }

  asio::awaitable<void> run_request(size_t i, std::string bytes) {
    RequestRecord& r = outcome_.records[i];
    r.status = RequestRecord::Status::open;
    r.start_s = now_s();
    std::unique_ptr<Connection> connection = take_connection();
    open_[i] = connection.get();
    const Exchange exchange{.endpoints = endpoints_, .bytes = bytes, .begin = begin_};
    Outcome outcome = co_await exchange_on(*connection, exchange, r);
    if (outcome == Outcome::not_taken && !is_stopping_) {  // the server had closed the idle connection meanwhile
      connection = std::make_unique<Connection>(io_);
      open_[i] = connection.get();
      outcome = co_await exchange_on(*connection, exchange, r);
    }
    open_.erase(i);
    if (r.end_s == 0) r.end_s = now_s();
    if (is_stopping_ && r.status != RequestRecord::Status::completed) r.status = RequestRecord::Status::open;
    if (outcome == Outcome::reusable) idle_.push_back(std::move(connection));
    --num_open_;
    ++num_done_;
    num_failed_ += r.status == RequestRecord::Status::failed;
    ended_.cancel();
    if (progress_) progress_(num_done_, static_cast<int>(requests_.size()), num_failed_);
  }

  // The one that was used last: others may idle long enough to be closed.
  std::unique_ptr<Connection> take_connection() {
    if (idle_.empty()) return std::make_unique<Connection>(io_);
    std::unique_ptr<Connection> connection = std::move(idle_.back());
    idle_.pop_back();
    return connection;
  }

  asio::awaitable<void> watch_signals() {
    const auto [ec, number] = co_await signals_.async_wait(kAwaitTuple);
    if (ec) co_return;
    signals_.clear();  // the next one has its usual effect
    stopped_s_ = now_s();
    is_stopping_ = true;
    for (const auto& [i, connection] : open_) connection->close();
    ended_.cancel();
  }

  asio::awaitable<void> watch_time() {
    while (!is_over_) {
      look_.expires_after(kLookInterval);
      co_await look_.async_wait(kAwaitTuple);
      const double oldest = now_s() - options_.timeout_s;
      for (const auto& [i, connection] : open_) {  // the oldest first
        if (outcome_.records[i].start_s > oldest) break;
        connection->is_timed_out = true;
        connection->close();
      }
    }
  }

  const Target& target_;
  const std::span<const Request> requests_;
  const LoadOptions options_;
  const std::function<void(int, int, int)>& progress_;
  LoadOutcome outcome_;
  asio::io_context io_{1};
  asio::signal_set signals_{io_, SIGINT, SIGTERM};
  asio::steady_timer ended_{io_}, look_{io_};
  std::vector<tcp::endpoint> endpoints_;
  std::vector<std::unique_ptr<Connection>> idle_;
  std::map<size_t, Connection*> open_;
  Clock::time_point begin_;
  double stopped_s_ = 0;
  int num_open_ = 0, num_done_ = 0, num_failed_ = 0;
  bool is_stopping_ = false, is_over_ = false;
};

}  // namespace

LoadOutcome run_load(const Target& target, std::span<const Request> requests, const LoadOptions& options,
                     const std::function<void(int, int, int)>& progress) {
  return Load(target, requests, options, progress).run();
}

}  // namespace comet::loadgen
