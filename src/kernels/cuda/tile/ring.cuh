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
  __device__ void advance() {
    if (++slot == kCount) slot = 0, parity ^= 1u;
  }
};

}  // namespace comet::cuda
