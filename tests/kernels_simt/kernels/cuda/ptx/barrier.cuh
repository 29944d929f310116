// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace comet::cuda::ptx {

extern char* const shared_memory;  // of the CTA that runs

inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(static_cast<const char*>(p) - shared_memory);
}

}  // namespace comet::cuda::ptx
