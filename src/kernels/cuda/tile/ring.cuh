// SPDX-License-Identifier: Apache-2.0
// Rings of shared memory that the copy engine fills and warps empty.
#pragma once

#include <cstdint>

namespace comet::cuda {

// A place in a ring and the parity of its current round.
template <int kCount>
struct RingCursor {
  int slot = 0;
  uint32_t parity = 0;
  // kBy divides kCount.
  template <int kBy = 1>
  __device__ void advance() {
    slot += kBy;
    if (slot >= kCount) slot -= kCount, parity ^= 1u;
  }
};

}  // namespace comet::cuda
