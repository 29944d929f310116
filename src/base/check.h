// SPDX-License-Identifier: Apache-2.0
// Errors: what was broken, where, and with which values. Library code throws these and never prints or exits.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace comet {

// A contract between parts of the program was broken. The message has file:line and the values.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The user gave something wrong: a file, an option, a request. Exit code 1 or HTTP 4xx.
class InvalidInput : public Error {
 public:
  using Error::Error;
};

// The user asked for something Comet does not do. The message lists what it does.
class Unsupported : public InvalidInput {
 public:
  using InvalidInput::InvalidInput;
};

template <typename... T>
[[noreturn]] void throw_invalid(fmt::format_string<T...> format, T&&... args) {
  throw InvalidInput(fmt::format(format, std::forward<T>(args)...));
}

template <typename... T>
[[noreturn]] void throw_unsupported(fmt::format_string<T...> format, T&&... args) {
  throw Unsupported(fmt::format(format, std::forward<T>(args)...));
}

namespace detail {
[[noreturn]] void check_failed(const char* file, int line, const char* expression, const std::string& message);
}

}  // namespace comet

// COMET_CHECK(condition, "format", args...): throws Error when the condition is false.
#define COMET_CHECK(condition, ...)                                                                 \
  do {                                                                                              \
    if (!(condition)) [[unlikely]]                                                                  \
      ::comet::detail::check_failed(__FILE__, __LINE__, #condition, ::fmt::format("" __VA_ARGS__)); \
  } while (0)

#define COMET_CHECK_EQ(a, b) COMET_CHECK((a) == (b), "{} != {}", (a), (b))
