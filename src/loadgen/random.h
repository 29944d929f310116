// SPDX-License-Identifier: Apache-2.0
// Seeded random numbers that are the same with every standard library.
#pragma once

#include <cmath>
#include <cstdint>

namespace comet::loadgen {

// SplitMix64 (Steele, Lea and Flood, 2014): neighbouring inputs give unrelated outputs.
constexpr uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

constexpr uint64_t mix(uint64_t a, uint64_t b) { return mix(mix(a) ^ b); }

// 0..n-1, n >= 1.
constexpr uint32_t below(uint64_t bits, uint32_t n) { return static_cast<uint32_t>((bits >> 32) * n >> 32); }

class Random {
 public:
  explicit Random(uint64_t seed) : state_(mix(seed)) {}

  uint64_t bits() { return mix(state_++); }
  // In (0, 1).
  double uniform() { return (static_cast<double>(bits() >> 11) + 0.5) * 0x1p-53; }
  // lo..hi, both included.
  int integer(int lo, int hi) { return lo + static_cast<int>(below(bits(), static_cast<uint32_t>(hi - lo) + 1)); }
  double normal() {
    const double radius = std::sqrt(-2 * std::log(uniform()));
    return radius * std::cos(2 * 3.14159265358979323846 * uniform());
  }
  // Gamma with the mean shape; shape > 0 (Marsaglia and Tsang, 2000).
  double gamma(double shape) {
    if (shape < 1) {
      const double power = std::pow(uniform(), 1 / shape);
      return gamma(shape + 1) * power;
    }
    const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
    while (true) {
      const double x = normal(), v = std::pow(1 + c * x, 3);
      if (v > 0 && std::log(uniform()) < x * x / 2 + d - d * v + d * std::log(v)) return d * v;
    }
  }

 private:
  uint64_t state_;
};

}  // namespace comet::loadgen
