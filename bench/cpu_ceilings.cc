// SPDX-License-Identifier: Apache-2.0
#include "cpu_ceilings.h"

#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <vector>

#include "base/check.h"

namespace comet {
namespace {

double seconds(bool is_cpu_time) {
  timespec t;
  clock_gettime(is_cpu_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// The best of five: a ceiling is what the machine can do when nobody disturbs it. One thread is timed in CPU time.
template <typename Body>
double best_seconds(ThreadPool& pool, Body body) {
  double best = 1e9;
  const bool is_alone = pool.num_threads() == 1;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const double start = seconds(is_alone);
    pool.parallel_for(pool.num_threads(), 1, [&](int64_t begin, int64_t, int) { body(begin); });
    best = std::min(best, seconds(is_alone) - start);
  }
  return best;
}

volatile uint64_t g_sink;

uint64_t read_all(const __m128i* p, size_t count) {
  __m128i sum[8] = {};
  for (size_t i = 0; i < count; i += 8)
    for (size_t j = 0; j < 8; ++j) sum[j] = _mm_xor_si128(sum[j], _mm_load_si128(p + i + j));
  for (size_t j = 1; j < 8; ++j) sum[0] = _mm_xor_si128(sum[0], sum[j]);
  return static_cast<uint64_t>(_mm_cvtsi128_si64(sum[0]));
}

constexpr int64_t kSteps = 20'000'000;
constexpr int kChains = 8;  // independent dot products of a step: more than latency times throughput

__attribute__((target("avx512f,avx512vnni"))) void multiply_avx512vnni() {
  __m512i a = _mm512_set1_epi32(1), s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a;
  for (int64_t step = 0; step < kSteps; ++step) {
    s0 = _mm512_dpbusd_epi32(s0, a, a);
    s1 = _mm512_dpbusd_epi32(s1, a, a);
    s2 = _mm512_dpbusd_epi32(s2, a, a);
    s3 = _mm512_dpbusd_epi32(s3, a, a);
    s4 = _mm512_dpbusd_epi32(s4, a, a);
    s5 = _mm512_dpbusd_epi32(s5, a, a);
    s6 = _mm512_dpbusd_epi32(s6, a, a);
    s7 = _mm512_dpbusd_epi32(s7, a, a);
    asm volatile("" : "+v"(s0), "+v"(s1), "+v"(s2), "+v"(s3), "+v"(s4), "+v"(s5), "+v"(s6), "+v"(s7));
  }
}

// A step of the saturating form: products in 16 bits, added up in 16 bits.
__attribute__((target("avx2"))) void multiply_avx2() {
  __m256i a = _mm256_set1_epi32(1), s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a;
  for (int64_t step = 0; step < kSteps; ++step) {
    s0 = _mm256_add_epi16(s0, _mm256_maddubs_epi16(a, s0));
    s1 = _mm256_add_epi16(s1, _mm256_maddubs_epi16(a, s1));
    s2 = _mm256_add_epi16(s2, _mm256_maddubs_epi16(a, s2));
    s3 = _mm256_add_epi16(s3, _mm256_maddubs_epi16(a, s3));
    s4 = _mm256_add_epi16(s4, _mm256_maddubs_epi16(a, s4));
    s5 = _mm256_add_epi16(s5, _mm256_maddubs_epi16(a, s5));
    s6 = _mm256_add_epi16(s6, _mm256_maddubs_epi16(a, s6));
    s7 = _mm256_add_epi16(s7, _mm256_maddubs_epi16(a, s7));
    asm volatile("" : "+v"(s0), "+v"(s1), "+v"(s2), "+v"(s3), "+v"(s4), "+v"(s5), "+v"(s6), "+v"(s7));
  }
}

}  // namespace

double measure_read_bandwidth(ThreadPool& pool) {
  const size_t share = size_t{256} << 20, bytes = share * static_cast<size_t>(pool.num_threads());
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  COMET_CHECK(p != MAP_FAILED, "{} bytes", bytes);
  madvise(p, bytes, MADV_HUGEPAGE);
  memset(p, 1, bytes);
  const double time = best_seconds(pool, [&](int64_t thread) {
    g_sink = read_all(static_cast<const __m128i*>(p) + static_cast<size_t>(thread) * share / 16, share / 16);
  });
  munmap(p, bytes);
  return static_cast<double>(bytes) / time;
}

double measure_int8_macs(Isa isa, ThreadPool& pool) {
  const double time =
      best_seconds(pool, [&](int64_t) { isa == Isa::avx512vnni ? multiply_avx512vnni() : multiply_avx2(); });
  return static_cast<double>(kSteps) * kChains * (isa == Isa::avx512vnni ? 64 : 32) * pool.num_threads() / time;
}

}  // namespace comet
