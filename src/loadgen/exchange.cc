// SPDX-License-Identifier: Apache-2.0
#include "loadgen/exchange.h"

#include <optional>

#include "base/check.h"
#include "loadgen/asio.h"
#include "loadgen/sse.h"

namespace comet::loadgen {
namespace {

constexpr size_t kReadSize = 8 << 10, kMaxErrorBody = 64 << 10;
constexpr std::string_view kDone = "[DONE]";

// Takes in the body of an answer.
class AnswerReader {
 public:
  AnswerReader(RequestRecord& record, Clock::time_point begin) : record_(record), begin_(begin) {}

  void take_head(const http::response_header<>& head) {
    status_ = head.result_int();
    content_type_ = std::string(head[http::field::content_type]);
    is_stream_ = status_ == 200 && content_type_.starts_with("text/event-stream");
  }

  void take(const std::string& body) {
    if (!is_stream_) {
      if (error_body_.size() < kMaxErrorBody) error_body_ += body;
      return;
    }
    const double now_s = std::chrono::duration<double>(Clock::now() - begin_).count();
    sse_.push(body, [&](std::string_view data) { take_event(data, now_s); });
  }

  // ec: what ended the answer, if it did not end as it should.
  void finish(const boost::system::error_code& ec, bool is_timed_out) {
    if (is_stream_ && error_kind_.empty() && (is_done_ || (is_finished_ && !ec))) {
      record_.status = RequestRecord::Status::completed;
      record_.end_s = record_.event_s.empty() ? finished_s_ : record_.event_s.back();
      if (!record_.has_usage) record_.output_tokens = static_cast<int>(record_.event_s.size());
      return;
    }
    if (is_timed_out)
      fail("timed out", "no end within the time limit");
    else if (status_ == 0)
      fail("no answer", ec ? ec.message() : "the connection was closed");
    else if (status_ != 200)
      fail_with_status();
    else if (!is_stream_)
      fail("no event stream", fmt::format("{}: {}", content_type_, error_body_.substr(0, kShown)));
    else if (!error_kind_.empty())
      fail(error_kind_, error_message_);
    else
      fail("cut off", fmt::format("the stream ended after {} events with text: {}", record_.event_s.size(),
                                  ec ? ec.message() : "no [DONE], no finish_reason"));
  }

  void fail(std::string kind, std::string message) {
    record_.status = RequestRecord::Status::failed;
    record_.failure = std::move(kind);
    record_.message = std::move(message);
  }

  bool has_begun() const { return status_ != 0; }

 private:
  static constexpr size_t kShown = 200;

  void fail_with_status() {
    const ErrorText error = parse_error(error_body_);
    fail(error.kind.empty() ? std::to_string(status_) : fmt::format("{} {}", status_, error.kind), error.message);
  }

  void take_event(std::string_view data, double now_s) {
    if (is_done_ || !error_kind_.empty()) return;
    if (data == kDone) {
      is_done_ = true;
      if (!is_finished_) finished_s_ = now_s;
      return;
    }
    const std::optional<Chunk> chunk = parse_chunk(data);
    if (!chunk) {
      error_kind_ = "bad event", error_message_ = std::string(data.substr(0, kShown));
      return;
    }
    if (!chunk->error_kind.empty()) error_kind_ = "event " + chunk->error_kind, error_message_ = chunk->error_message;
    if (chunk->has_text) record_.event_s.push_back(now_s);
    if (chunk->is_finished) is_finished_ = true, finished_s_ = now_s;
    if (!chunk->has_usage) return;
    record_.has_usage = true;
    record_.prompt_tokens = chunk->prompt_tokens;
    record_.output_tokens = chunk->completion_tokens;
    record_.cached_tokens = chunk->cached_tokens;
  }

  RequestRecord& record_;
  Clock::time_point begin_;
  SseParser sse_;
  unsigned status_ = 0;
  bool is_stream_ = false, is_done_ = false, is_finished_ = false;
  double finished_s_ = 0;
  std::string content_type_, error_body_, error_kind_, error_message_;
};

using Parser = http::response_parser<http::string_body>;

// Everything in the buffer that is whole.
boost::system::error_code parse(Parser& parser, beast::flat_buffer& buffer) {
  boost::system::error_code ec;
  while (buffer.size() > 0 && !parser.is_done() && !ec) buffer.consume(parser.put(buffer.data(), ec));
  return ec == http::error::need_more ? boost::system::error_code() : ec;
}

// The server closed: for some answers that is how they end.
boost::system::error_code end_of(Parser& parser) {
  boost::system::error_code ec = http::error::end_of_stream;
  if (!parser.got_some()) return ec;
  ec = {};
  parser.put_eof(ec);
  return ec;
}

}  // namespace

asio::awaitable<Outcome> exchange_on(Connection& c, const Exchange& e, RequestRecord& record) {
  AnswerReader reader(record, e.begin);
  const bool was_used = std::exchange(c.is_used, true);
  if (!was_used) {
    const auto [ec, endpoint] = co_await asio::async_connect(c.socket, e.endpoints, kAwaitTuple);
    if (ec || c.is_closed) {
      reader.fail(c.is_timed_out ? "timed out" : "connect: " + ec.message(), ec.message());
      co_return Outcome::closed;
    }
    boost::system::error_code ignored;
    c.socket.set_option(tcp::no_delay(true), ignored);
  }
  // A server that refuses may answer and close before it has read all: what it said still counts.
  co_await asio::async_write(c.socket, asio::buffer(e.bytes), kAwaitTuple);
  Parser parser;
  parser.body_limit(boost::none);
  parser.eager(true);
  boost::system::error_code ec;
  try {
    while (!parser.is_done() && !ec) {
      // Not http::async_read_some: with a chunk's last line break in the buffer it waits for the next chunk.
      const asio::mutable_buffer space = c.buffer.prepare(kReadSize);
      const auto [error, n] = co_await c.socket.async_read_some(space, kAwaitTuple);
      c.buffer.commit(n);
      ec = error == asio::error::eof ? end_of(parser) : error ? error : parse(parser, c.buffer);
      if (!reader.has_begun() && parser.is_header_done()) reader.take_head(parser.get());
      std::string& body = parser.get().body();
      if (!body.empty()) reader.take(body);
      body.clear();
    }
    if (was_used && !reader.has_begun() && !c.is_closed) co_return Outcome::not_taken;
    reader.finish(ec, c.is_timed_out);
  } catch (const InvalidInput& error) {
    reader.fail("bad event", error.what());
    co_return Outcome::closed;
  }
  const bool is_clean = !ec && parser.is_done() && parser.keep_alive() && c.buffer.size() == 0;
  co_return is_clean ? Outcome::reusable : Outcome::closed;
}

}  // namespace comet::loadgen
