// SPDX-License-Identifier: Apache-2.0
// Division by numbers that the host knows.
#pragma once

#include <concepts>
#include <cstdint>

namespace comet::cuda {

// A number whose quotients cost one multiplication: a division takes the device some 200 clocks, and a CTA that looks
// for its work before it copies anything has several in a row.
class FastDivisor {
 public:
  // d >= 0; there are no quotients of 0.
  constexpr FastDivisor(int d = 1) : divisor_(d) {
    if (d <= 0) return;
    while (int64_t{1} << log2_ < d) ++log2_;
    const auto divisor = static_cast<uint64_t>(d);
    factor_ = static_cast<uint32_t>(((uint64_t{1} << (31 + log2_)) + divisor - 1) / divisor);
  }
  constexpr operator int() const { return divisor_; }

  // x >= 0; what is not an int is divided as ever.
  template <std::same_as<int> Int>
  friend constexpr int operator/(Int x, const FastDivisor& d) {
    return static_cast<int>(static_cast<uint32_t>(uint64_t{2u * static_cast<uint32_t>(x)} * d.factor_ >> 32) >>
                            d.log2_);
  }
  template <std::same_as<int> Int>
  friend constexpr int operator%(Int x, const FastDivisor& d) {
    return x - x / d * d.divisor_;
  }

 private:
  int divisor_;
  int log2_ = 0;         // of the power of two from the divisor on
  uint32_t factor_ = 0;  // ceil(2^(31 + log2) / divisor)
};

}  // namespace comet::cuda
