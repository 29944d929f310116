// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"

#include <string_view>

namespace comet::detail {

void check_failed(const char* file, int line, const char* expression, const std::string& message) {
  std::string_view path = file;  // the part below src/ is enough, and the same on every machine
  if (const size_t at = path.rfind("src/"); at != std::string_view::npos) path = path.substr(at);
  throw Error(fmt::format("{}:{}: check failed: {}{}{}", path, line, expression, message.empty() ? "" : ": ", message));
}

}  // namespace comet::detail
