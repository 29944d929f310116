// SPDX-License-Identifier: Apache-2.0
// One JSON line for each request and event, without a word of prompts or answers.
#pragma once

#include <cstdio>
#include <mutex>
#include <string>

#include "server/error.h"

namespace comet::server {

// Any thread. A line that cannot be written (a full disk) is lost and counted; serving goes on.
class RequestLog {
 public:
  // file: appended to; "": standard error. Throws InvalidInput when it cannot be opened.
  RequestLog(const std::string& file, bool log_requests);
  ~RequestLog();
  RequestLog(const RequestLog&) = delete;
  RequestLog& operator=(const RequestLog&) = delete;

  void request(const Json& fields);
  void event(const char* level, const std::string& message);
  int64_t num_lost() const;

 private:
  void write(const Json& line);

  std::FILE* file_;
  bool log_requests_;
  mutable std::mutex mutex_;
  int64_t num_lost_ = 0;
};

}  // namespace comet::server
