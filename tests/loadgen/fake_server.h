// SPDX-License-Identifier: Apache-2.0
// A server that answers as it is told to, also with what no server should.
#pragma once

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace comet::loadgen {

class FakeServer {
 public:
  struct Reply {
    std::vector<std::string> pieces{};  // sent one after another
    bool closes = false;                // after them
    int hangs_ms = 0;                   // before anything
    int pause_ms = 0;                   // before each piece
  };
  // Of the n-th request (from 0) and its bytes.
  using Script = std::function<Reply(int n, const std::string& request)>;

  explicit FakeServer(Script script) : script_(std::move(script)), fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    if (bind(fd_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd_, 128) != 0 ||
        getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
      throw std::runtime_error("cannot listen");
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~FakeServer() {
    shutdown(fd_, SHUT_RDWR);
    acceptor_.join();
    close(fd_);
    std::vector<std::thread> threads;
    {
      std::lock_guard lock(mutex_);
      for (const int fd : open_) shutdown(fd, SHUT_RDWR);
      threads.swap(threads_);
    }
    for (std::thread& t : threads) t.join();
  }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  int num_connections() const { return num_connections_; }
  int num_requests() const { return num_requests_; }

 private:
  void accept_all() {
    while (true) {
      const int fd = accept(fd_, nullptr, nullptr);
      if (fd < 0) return;
      ++num_connections_;
      std::lock_guard lock(mutex_);
      open_.push_back(fd);
      threads_.emplace_back([this, fd] { answer_all(fd); });
    }
  }

  void answer_all(int fd) {
    bool goes_on = true;
    for (std::string request; goes_on && read_request(fd, request); request.clear()) {
      const Reply reply = script_(num_requests_++, request);
      std::this_thread::sleep_for(std::chrono::milliseconds(reply.hangs_ms));
      for (const std::string& piece : reply.pieces) {
        std::this_thread::sleep_for(std::chrono::milliseconds(reply.pause_ms));
        goes_on = goes_on && send(fd, piece.data(), piece.size(), MSG_NOSIGNAL) > 0;
      }
      goes_on = goes_on && !reply.closes;
    }
    std::lock_guard lock(mutex_);
    std::erase(open_, fd);
    close(fd);
  }

  static bool read_request(int fd, std::string& data) {
    char bytes[4096];
    while (true) {
      const size_t end = data.find("\r\n\r\n"), length = data.find("Content-Length: ");
      if (end != std::string::npos) {
        const size_t body = length < end ? std::stoul(data.substr(length + 16)) : 0;
        if (data.size() >= end + 4 + body) return true;
      }
      const ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
      if (n <= 0) return false;
      data.append(bytes, static_cast<size_t>(n));
    }
  }

  Script script_;
  int fd_;
  uint16_t port_ = 0;
  std::atomic<int> num_connections_{0}, num_requests_{0};
  std::mutex mutex_;
  std::vector<int> open_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

inline std::string chunk(const std::string& text) {
  char size[32];
  std::snprintf(size, sizeof(size), "%zx\r\n", text.size());
  return size + text + "\r\n";
}

inline std::string with_length(int status, const std::string& body, const std::string& extra = "") {
  return "HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Type: application/json\r\n" + extra +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

inline const std::string kStreamHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";

inline std::string text_event(const std::string& text, const std::string& finish = "null") {
  return R"(data: {"choices": [{"index": 0, "text": ")" + text + R"(", "finish_reason": )" + finish + "}]}\n\n";
}

inline const std::string kUsageEvent =
    "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 7, \"completion_tokens\": 3, "
    "\"prompt_tokens_details\": {\"cached_tokens\": 2}}}\n\n";

}  // namespace comet::loadgen
