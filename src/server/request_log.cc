// SPDX-License-Identifier: Apache-2.0
#include "server/request_log.h"

#include <fmt/chrono.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/check.h"

namespace comet::server {
namespace {

std::string now_text() {
  const auto now = std::chrono::system_clock::now();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(now)), ms);
}

}  // namespace

RequestLog::RequestLog(const std::string& file, bool log_requests)
    : file_(file.empty() ? stderr : std::fopen(file.c_str(), "ae")), log_requests_(log_requests) {
  if (file_ == nullptr) throw_invalid("cannot open the log file {}: {}", file, std::strerror(errno));
}

RequestLog::~RequestLog() {
  if (file_ != stderr) std::fclose(file_);
}

void RequestLog::request(const Json& fields) {
  if (!log_requests_) return;
  Json line = {{"time", now_text()}, {"level", "info"}};
  line.update(fields);
  write(line);
}

void RequestLog::event(const char* level, const std::string& message) {
  write({{"time", now_text()}, {"level", level}, {"message", message}});
}

int64_t RequestLog::num_lost() const {
  std::lock_guard lock(mutex_);
  return num_lost_;
}

void RequestLog::write(const Json& line) {
  const std::string text = dump(line) + '\n';
  std::lock_guard lock(mutex_);
  const bool is_written = std::fwrite(text.data(), 1, text.size(), file_) == text.size() && std::fflush(file_) == 0;
  if (is_written) return;
  std::clearerr(file_);
  num_lost_ += 1;
}

}  // namespace comet::server
