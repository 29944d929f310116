// SPDX-License-Identifier: Apache-2.0
// wgmma with weights (M = 64 rows) as the register operand and tokens (N columns) in shared memory. sm_90a.
#pragma once

#include <cstdint>

namespace comet::cuda::ptx {

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Keeps the computation of an operand in front of this point: without it the compiler sinks part of it behind the wait.
__device__ __forceinline__ void pin_operand(uint32_t (&a)[16]) {
#pragma unroll
  for (int i = 0; i < 16; ++i) asm volatile("" : "+r"(a[i]));
}

// A K-major tile of 8-row blocks of 128-byte rows in the 128-byte swizzle (start is a multiple of 1024; 32 bytes of k
// are 2 units): bits 0-13 start / 16, 16-29 unused here, 32-45 bytes between blocks / 16, 62-63 swizzle.
__device__ __forceinline__ uint64_t wgmma_descriptor_swizzle128(uint32_t address) {
  return static_cast<uint64_t>(address >> 4) | (1ull << 16) | (64ull << 32) | (1ull << 62);
}

// Operand names are written in tens: COMET_TEN(3) is "%30, .. %39".
#define COMET_TEN(d) "%" #d "0,%" #d "1,%" #d "2,%" #d "3,%" #d "4,%" #d "5,%" #d "6,%" #d "7,%" #d "8,%" #d "9"
#define COMET_TENS2 COMET_TEN() "," COMET_TEN(1)
#define COMET_TENS5 COMET_TENS2 "," COMET_TEN(2) "," COMET_TEN(3) "," COMET_TEN(4)
#define COMET_TENS10 COMET_TENS5 "," COMET_TEN(5) "," COMET_TEN(6) "," COMET_TEN(7) "," COMET_TEN(8) "," COMET_TEN(9)
#define COMET_ACC4(i) "+r"(c[i]), "+r"(c[i + 1]), "+r"(c[i + 2]), "+r"(c[i + 3])
#define COMET_ACC16(i) COMET_ACC4(i), COMET_ACC4(i + 4), COMET_ACC4(i + 8), COMET_ACC4(i + 12)
#define COMET_ACC64(i) COMET_ACC16(i), COMET_ACC16(i + 16), COMET_ACC16(i + 32), COMET_ACC16(i + 48)

// c[64 x N] = a[64 x 32] * b[32 x N]^T + (accumulate ? c : 0), with a in registers.
//   N, registers, type of a, "list of accumulator names", first name after them .. (a0 a1 a2 a3 b p), accumulators
#define COMET_WGMMA(N, REGS, TYPE, NAMES, A0, A1, A2, A3, B, P, ...)                                                \
  __device__ __forceinline__ void wgmma_m64k32_##TYPE(int32_t(&c)[REGS], const uint32_t* a, uint64_t b,             \
                                                      bool accumulate) {                                            \
    asm volatile("{.reg .pred p; setp.ne.b32 p,%" #P                                                                \
                 ",0;\n"                                                                                            \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k32.s32." #TYPE ".s8 {" NAMES "},{%" #A0 ",%" #A1 ",%" #A2 \
                 ",%" #A3 "},%" #B ",p;}"                                                                           \
                 : __VA_ARGS__                                                                                      \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)));          \
  }
#define COMET_WGMMA_BOTH(...) COMET_WGMMA_PAIR(__VA_ARGS__)
#define COMET_WGMMA_PAIR(N, REGS, ...) COMET_WGMMA(N, REGS, u8, __VA_ARGS__) COMET_WGMMA(N, REGS, s8, __VA_ARGS__)

COMET_WGMMA_BOTH(8, 4, "%0,%1,%2,%3", 4, 5, 6, 7, 8, 9, COMET_ACC4(0))
COMET_WGMMA_BOTH(16, 8, "%0,%1,%2,%3,%4,%5,%6,%7", 8, 9, 10, 11, 12, 13, COMET_ACC4(0), COMET_ACC4(4))
COMET_WGMMA_BOTH(32, 16, COMET_TEN() ",%10,%11,%12,%13,%14,%15", 16, 17, 18, 19, 20, 21, COMET_ACC16(0))
COMET_WGMMA_BOTH(64, 32, COMET_TENS2 "," COMET_TEN(2) ",%30,%31", 32, 33, 34, 35, 36, 37, COMET_ACC16(0),
                 COMET_ACC16(16))
COMET_WGMMA_BOTH(96, 48, COMET_TENS2 "," COMET_TEN(2) "," COMET_TEN(3) ",%40,%41,%42,%43,%44,%45,%46,%47", 48, 49, 50,
                 51, 52, 53, COMET_ACC16(0), COMET_ACC16(16), COMET_ACC16(32))
COMET_WGMMA_BOTH(128, 64, COMET_TENS5 "," COMET_TEN(5) ",%60,%61,%62,%63", 64, 65, 66, 67, 68, 69, COMET_ACC64(0))
COMET_WGMMA_BOTH(160, 80, COMET_TENS5 "," COMET_TEN(5) "," COMET_TEN(6) "," COMET_TEN(7), 80, 81, 82, 83, 84, 85,
                 COMET_ACC64(0), COMET_ACC16(64))
COMET_WGMMA_BOTH(192, 96,
                 COMET_TENS5
                 "," COMET_TEN(5) "," COMET_TEN(6) "," COMET_TEN(7) "," COMET_TEN(8) ",%90,%91,%92,%93,%94,%95",
                 96, 97, 98, 99, 100, 101, COMET_ACC64(0), COMET_ACC16(64), COMET_ACC16(80))
COMET_WGMMA_BOTH(224, 112, COMET_TENS10 "," COMET_TEN(10) ",%110,%111", 112, 113, 114, 115, 116, 117, COMET_ACC64(0),
                 COMET_ACC16(64), COMET_ACC16(80), COMET_ACC16(96))
COMET_WGMMA_BOTH(256, 128, COMET_TENS10 "," COMET_TEN(10) "," COMET_TEN(11) ",%120,%121,%122,%123,%124,%125,%126,%127",
                 128, 129, 130, 131, 132, 133, COMET_ACC64(0), COMET_ACC64(64))

#undef COMET_WGMMA_PAIR
#undef COMET_WGMMA_BOTH
#undef COMET_WGMMA
#undef COMET_ACC64
#undef COMET_ACC16
#undef COMET_ACC4
#undef COMET_TENS10
#undef COMET_TENS5
#undef COMET_TENS2
#undef COMET_TEN

}  // namespace comet::cuda::ptx
