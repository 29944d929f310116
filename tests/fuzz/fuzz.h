// SPDX-License-Identifier: Apache-2.0
// What all fuzzers share: a check that ends the process, and inputs made of parts.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"

namespace comet::fuzz {

[[noreturn]] inline void fail(const char* file, int line, const char* expression, const std::string& message) {
  std::fprintf(stderr, "%s:%d: %s does not hold: %s\n", file, line, expression, message.c_str());
  std::abort();
}

// The parts of an input that lines of "----" divide; exactly `count`, missing ones are empty.
inline std::vector<std::string> split(std::string_view input, size_t count) {
  constexpr std::string_view kLine = "\n----\n";
  std::vector<std::string> parts;
  while (parts.size() + 1 < count) {
    const size_t end = input.find(kLine);
    if (end == input.npos) break;
    parts.emplace_back(input.substr(0, end));
    input.remove_prefix(end + kLine.size());
  }
  parts.emplace_back(input);
  parts.resize(count);
  return parts;
}

// Takes numbers off the front of bytes; zeros when they are used up.
class Bytes {
 public:
  explicit Bytes(std::string_view bytes) : rest_(bytes) {}
  bool empty() const { return rest_.empty(); }
  uint8_t next() {
    if (rest_.empty()) return 0;
    const uint8_t byte = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return byte;
  }

 private:
  std::string_view rest_;
};

// What `call` refuses as wrong input, or "". Every other exception ends the process: it would be a bug.
template <typename Call>
std::string refusal_of(const Call& call) {
  try {
    call();
  } catch (const InvalidInput& e) {
    return *e.what() == '\0' ? "an error without a message" : e.what();
  }
  return "";
}

}  // namespace comet::fuzz

// Ends the process when a property does not hold, which libFuzzer and ctest take for a failure.
#define FUZZ_CHECK(condition, ...)                                                                        \
  do {                                                                                                    \
    if (!(condition)) ::comet::fuzz::fail(__FILE__, __LINE__, #condition, ::fmt::format("" __VA_ARGS__)); \
  } while (0)
