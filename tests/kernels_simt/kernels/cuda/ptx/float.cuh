// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace comet::cuda::ptx {

inline float max_or_nan(float a, float b) { return std::isnan(a) || std::isnan(b) ? NAN : std::fmax(a, b); }

inline float float_of_f16(uint16_t bits) { return to_float(f16{bits}); }

inline float approximate_reciprocal(float d) { return 1.0f / d; }

inline uint32_t max_magnitude_bf16x2(uint32_t a, uint32_t b) {
  const auto larger = [](uint32_t x, uint32_t y) { return std::max(x, y) > 0x7f80 ? 0x7fffu : std::max(x, y); };
  return larger(a & 0x7fff, b & 0x7fff) | larger(a >> 16 & 0x7fff, b >> 16 & 0x7fff) << 16;
}

}  // namespace comet::cuda::ptx
