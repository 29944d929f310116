// SPDX-License-Identifier: Apache-2.0
#include "engine/random.h"

#include <random>

namespace comet {

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  auto [c0, c1, c2, c3] = counter;
  auto [k0, k1] = key;
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * c0, b = uint64_t{0xCD9E8D57} * c2;
    c0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(b);
    c2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(a);
    k0 += 0x9E3779B9;  // Weyl sequences: golden ratio, sqrt(3) - 1
    k1 += 0xBB67AE85;
  }
  return {c0, c1, c2, c3};
}

uint64_t random_bits(uint64_t seed, uint32_t choice_idx, uint32_t position) {
  const auto words =
      philox4x32({position, choice_idx, 0, 0}, {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return words[0] | uint64_t{words[1]} << 32;
}

uint64_t draw_seed() {
  std::random_device device;
  return device() | uint64_t{device()} << 32;
}

}  // namespace comet
