// SPDX-License-Identifier: Apache-2.0
// Calls the functions of comet_text.h: answers as strings, failures as InvalidInput.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/check.h"
#include "text/comet_text.h"

namespace comet {

inline CometTextView as_view(std::string_view bytes) { return {bytes.data(), bytes.size()}; }

// `call` takes the CometTextBuffer* answer and returns the function's status. Throws InvalidInput: `what` and the
// message.
template <typename Call>
std::string call_crate(std::string_view what, Call&& call) {
  struct Answer {
    CometTextBuffer buffer{};
    ~Answer() {
      if (buffer.data != nullptr) comet_text_free(buffer);
    }
  } answer;
  const int status = call(&answer.buffer);
  std::string text(answer.buffer.data, answer.buffer.size);
  if (status != 0) throw InvalidInput(fmt::format("{}{}", what, text));
  return text;
}

// The whole file. Throws InvalidInput that names it: missing, unreadable, no regular file, larger than max_bytes.
std::string read_text_file(const std::filesystem::path& path, size_t max_bytes);

}  // namespace comet
