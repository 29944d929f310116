// SPDX-License-Identifier: Apache-2.0
// For tests that want a backend and do not care which.
#pragma once

#include <memory>

#include "base/check.h"
#include "kernels/backend.h"

namespace comet {

// The CPU's best, or the reference where it has no ISA of ours.
inline std::unique_ptr<Backend> fast_backend(int num_threads) {
  try {
    return cpu_backend("", std::make_shared<ThreadPool>(num_threads));
  } catch (const Unsupported&) {
    return ref_backend();
  }
}

}  // namespace comet
