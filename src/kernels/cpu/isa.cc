// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/isa.h"

#include <cpuid.h>

namespace comet {
namespace {

struct Cpuid {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Cpuid cpuid(unsigned leaf, unsigned subleaf) {
  Cpuid r;
  if (!__get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d)) return {};
  return r;
}

// Register state that the operating system saves (XCR0); needs OSXSAVE.
uint64_t saved_state() {
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

constexpr bool all(uint64_t word, uint64_t mask) { return (word & mask) == mask; }
constexpr unsigned bit(int i) { return 1u << i; }

constexpr uint64_t kYmmState = 0x06;  // xmm, upper halves of ymm
constexpr uint64_t kZmmState = 0xe6;  // those, mask registers, upper halves of zmm, zmm16..31

}  // namespace

IsaSet detect_isas() {
  IsaSet have;
  const Cpuid one = cpuid(1, 0), seven = cpuid(7, 0);
  if (!all(one.c, bit(27))) return have;  // OSXSAVE
  const uint64_t saved = saved_state();
  const bool fma_f16c = all(one.c, bit(12) | bit(29)), avx2_bmi2 = all(seven.b, bit(5) | bit(8));
  if (!(fma_f16c && avx2_bmi2 && all(saved, kYmmState))) return have;
  have.add(Isa::avx2);
  const bool f_dq_bw_vl = all(seven.b, bit(16) | bit(17) | bit(30) | bit(31)), vnni = all(seven.c, bit(11));
  if (f_dq_bw_vl && vnni && all(saved, kZmmState)) have.add(Isa::avx512vnni);
  return have;
}

}  // namespace comet
