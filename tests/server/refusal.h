// SPDX-License-Identifier: Apache-2.0
// What a call refuses, for comparisons.
#pragma once

#include <ostream>
#include <string>

#include "server/error.h"

namespace comet::server {

struct Refusal {
  int status = 0;  // 0: nothing was refused
  std::string code, param, message;
};

inline std::ostream& operator<<(std::ostream& out, const Refusal& r) {
  return out << r.status << " " << r.code << " " << r.param << ": " << r.message;
}

template <typename Call>
Refusal refusal(const Call& call) {
  try {
    call();
  } catch (const ApiError& e) {
    return {e.status(), e.code(), e.param(), e.what()};
  }
  return {};
}

}  // namespace comet::server
