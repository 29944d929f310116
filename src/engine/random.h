// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: functions of the place where they are used, which no batching or preemption moves.
#pragma once

#include <array>
#include <cstdint>

namespace comet {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): counter and key to four words.
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// The 64 random bits that choose the token at `position` (its index in prompt + output) of choice `choice_idx`:
// counter {position, choice_idx, 0, 0}, key = seed, low word first; words 0 (low) and 1 (high) of the result.
uint64_t random_bits(uint64_t seed, uint32_t choice_idx, uint32_t position);

// A seed from the operating system, for a request that has none.
uint64_t draw_seed();

}  // namespace comet
