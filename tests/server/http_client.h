// SPDX-License-Identifier: Apache-2.0
// A blocking HTTP client of few words.
#pragma once

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

namespace comet::server {

class HttpClient {
 public:
  // Sends `request` to this machine's `port`.
  HttpClient(uint16_t port, const std::string& request) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    is_connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 &&
                    send(fd_, request.data(), request.size(), 0) == static_cast<ssize_t>(request.size());
  }
  ~HttpClient() { close(fd_); }
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  static std::string get(const std::string& path) {
    return "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  }
  static std::string complete(const std::string& body) {
    return "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " +
           std::to_string(body.size()) + "\r\n\r\n" + body;
  }

  // Reads until `text` came or the server closed; everything so far.
  const std::string& read_until(const std::string& text) {
    char bytes[4096];
    while (is_connected_ && data_.find(text) == std::string::npos) {
      const ssize_t n = recv(fd_, bytes, sizeof(bytes), 0);
      if (n <= 0) break;
      data_.append(bytes, static_cast<size_t>(n));
    }
    return data_;
  }
  const std::string& read_all() { return read_until("never said by any server"); }

 private:
  int fd_;
  bool is_connected_ = false;
  std::string data_;
};

}  // namespace comet::server
