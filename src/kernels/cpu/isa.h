// SPDX-License-Identifier: Apache-2.0
// The instruction sets that CPU kernels are written for, and which of them this machine can run. POD only.
#pragma once

#include <cstdint>

namespace comet {

// Slowest first. A file *_<isa>.cc holds the kernels of one of them; each includes what stands above it.
enum class Isa : uint8_t {
  avx2,        // AVX2, FMA, F16C, BMI2
  avx512vnni,  // AVX-512 F, BW, DQ, VL, VNNI
};

constexpr Isa kAllIsas[] = {Isa::avx2, Isa::avx512vnni};

constexpr const char* to_string(Isa isa) {
  switch (isa) {
    case Isa::avx2: return "avx2";
    case Isa::avx512vnni: return "avx512vnni";
  }
  return "?";
}

class IsaSet {
 public:
  constexpr void add(Isa isa) { bits_ |= 1u << static_cast<unsigned>(isa); }
  constexpr bool has(Isa isa) const { return (bits_ >> static_cast<unsigned>(isa) & 1u) != 0; }
  constexpr bool is_empty() const { return bits_ == 0; }

 private:
  unsigned bits_ = 0;
};

// What the processor has (cpuid) and the operating system saves on a context switch (xgetbv).
IsaSet detect_isas();

}  // namespace comet
