// SPDX-License-Identifier: Apache-2.0
// What a CTA of quantize_act_resident_sm90.cu is given, keeps in shared memory and writes.
#pragma once

#include "kernels/cuda/layouts_sm90.h"
#include "kernels/cuda/quantize_act_sm90.h"
#include "kernels/cuda/tile/quantize_units.cuh"

namespace comet::cuda {

struct ResidentArgs {
  QuantizeActProblem p;
  QuantizeActArgs a;
  ScaleConstants scales;
  float hadamard_scale;
  int cluster, cta_groups;
  int stages;                // 1 where no CTA has a second pass
  int parts, part_channels;  // of a normed row; from 2 parts on its squares are summed from shared memory
};

constexpr int kConsumersBarrier = 1, kHelpersBarrier = 2, kReadBarrier = 3;  // the last: of stage 0; 4: of stage 1
constexpr int kStages = 2;

// Bytes of a channel of the row, and whether channels are picked one by one.
constexpr int channel_bytes(ActSource source) { return source == ActSource::bf16 ? 2 : 4; }
// Warps that sum squares, from global memory, to be done when the row has come.
constexpr int helper_warps(ActSource source) { return source == ActSource::rms_norm ? 4 : 0; }
constexpr bool is_half(ActSource source) { return source == ActSource::bf16 || source == ActSource::silu_mul; }

// What lies in shared memory: barriers, rows [token][stage], maxima [parity][token][slot], sums [parity][token][slot];
// slots are the warps of a cluster. A picked row ends in 16 bytes of zeros, where padding channels come from. Gains lie
// where the first token's row of the last stage will.
struct SharedLayout {
  int row_bytes, slots, rows, most, sums, gain, bytes;
};
COMET_HD SharedLayout shared_layout(const ResidentArgs& k, bool is_picked, int tokens, int token_stride, int warps) {
  SharedLayout s;
  const int size = channel_bytes(k.p.source);
  s.row_bytes = is_picked ? k.p.format.k_in * size + 16 : k.cta_groups * kGroup * size;
  s.slots = warps * k.cluster;
  s.rows = helper_warps(k.p.source) > 0 ? 1152 : 128;
  s.most = s.rows + (tokens - 1) * token_stride + k.stages * s.row_bytes;
  s.sums = s.most + 2 * tokens * s.slots * 8;
  s.gain = s.rows + (k.stages - 1) * s.row_bytes;
  s.bytes = s.sums + 2 * tokens * s.slots * 4;
  return s;
}
// From one token's rows to the next one's: a constant, so that both are read through one address.
constexpr int token_stride(ActSource source, int most_channels) {
  return kStages * (most_channels * channel_bytes(source) + 16);
}

struct Barriers {
  uint64_t full[kStages][kMostParts], normed[kStages], exchanged[2], summed[2];
  float inverse[kStages];
  float chains[kStages][kGroup];  // of helpers; without them rows begin here
};

// The gains in the row's order, to be picked as the row is: picked from global memory, each costs a sector. n is a
// multiple of 4.
template <typename T>
__device__ __forceinline__ void stage_gains(const void* from, int n, int threads, float* to) {
  struct alignas(4 * sizeof(T)) Four {
    T v[4];
  };
  const T* gain = static_cast<const T*>(from);
  if (reinterpret_cast<size_t>(gain) % sizeof(Four) != 0) {
    for (int i = threadIdx.x; i < n; i += threads) to[i] = to_float(gain[i]);
    return;
  }
#pragma unroll 4
  for (int i = threadIdx.x * 4; i < n; i += threads * 4) {
    const Four v = *reinterpret_cast<const Four*>(gain + i);
    *reinterpret_cast<float4*>(to + i) = {to_float(v.v[0]), to_float(v.v[1]), to_float(v.v[2]), to_float(v.v[3])};
  }
}

// How a group's codes become bytes. Two codes lie in the 16-bit halves of a register: one instruction adds L and clamps
// to 0 .. 2 L. Four then lie in a word: times m, plus 128 - L m in every byte, without carries, is the value plus 128.
struct Encoding {
  float inverse_step;
  uint32_t multiplier;  // m; 0 for groups whose values are all 0
};
// amax: of the group's region; own_most: of the group.
__device__ __forceinline__ Encoding encoding_of(const TokenScales& scales, float amax, uint32_t own_most, bool is_first,
                                                bool is_4bit, float clip2) {
  if (scales.sx == 0.0f || amax < kMinAmax) return {0.0f, 0};
  const int multiplier = is_4bit ? group_multiplier(float_from_bits(own_most), clip2, scales.sx) : 1;
  return {1.0f / (static_cast<float>(is_first ? scales.r : multiplier) * scales.sx), static_cast<uint32_t>(multiplier)};
}
constexpr uint32_t kLimits4 = 0x00070007u, kLimits8 = 0x007f007fu;  // L, L

// Four values; returns the sum of the word's bytes.
__device__ __forceinline__ int encode_word(const float* x, const Encoding& e, uint32_t limits, uint32_t& word) {
  uint32_t code[4];  // in the low 16 bits: at most 127 / clip, and clip >= 2^-8
#pragma unroll
  for (int b = 0; b < 4; ++b) code[b] = float_bits(x[b] * e.inverse_step + kRoundToInt);
  const uint32_t low = __viaddmin_s16x2_relu(__byte_perm(code[0], code[1], 0x5410), limits, 2 * limits),
                 high = __viaddmin_s16x2_relu(__byte_perm(code[2], code[3], 0x5410), limits, 2 * limits);
  const uint32_t offset = (128u - (limits & 0xffffu) * e.multiplier) * 0x01010101u;
  word = (__byte_perm(low, high, 0x6420) * e.multiplier + offset) ^ 0x80808080u;
  return __dp4a(static_cast<int>(word), 0x01010101, 0);
}

__device__ __forceinline__ int encode(const float (&x)[kUnit], const Encoding& e, uint32_t limits,
                                      uint32_t (&words)[4]) {
  const uint32_t offset = (128u - (limits & 0xffffu) * e.multiplier) * 0x01010101u;
  int sum = 0;
#pragma unroll
  for (int h = 0; h < 4; ++h) {
    uint32_t code[4];  // in the low 16 bits: at most 127 / clip, and clip >= 2^-8
#pragma unroll
    for (int b = 0; b < 4; ++b) code[b] = float_bits(x[4 * h + b] * e.inverse_step + kRoundToInt);
    const uint32_t low = __viaddmin_s16x2_relu(__byte_perm(code[0], code[1], 0x5410), limits, 2 * limits),
                   high = __viaddmin_s16x2_relu(__byte_perm(code[2], code[3], 0x5410), limits, 2 * limits);
    words[h] = (__byte_perm(low, high, 0x6420) * e.multiplier + offset) ^ 0x80808080u;
    sum = __dp4a(static_cast<int>(words[h]), 0x01010101, sum);
  }
  return sum;
}

// offset: of the group's first token in values, which are less than 4 GiB.
__device__ __forceinline__ void store_words(int8_t* values, uint32_t offset, bool is_fragments, int token, int t,
                                            bool is_stored, const uint32_t (&words)[4]) {
  const uint32_t row = static_cast<uint32_t>(token) % kBlockTokens;
  if (is_fragments) {  // a lane's 16 bytes hold 4 pieces: half from this lane, half from the one 4 further
    const bool is_high = t >= 4;
    const uint32_t a = __shfl_xor_sync(~0u, is_high ? words[0] : words[2], 4),
                   b = __shfl_xor_sync(~0u, is_high ? words[1] : words[3], 4);
    const uint4 v = is_high ? uint4{a, words[2], b, words[3]} : uint4{words[0], a, words[1], b};
    if (is_stored)
      *reinterpret_cast<uint4*>(values + (offset + (token - row) * kGroup + t / 4 * 512 + (row * 4 + t % 4) * 16)) = v;
  } else if (is_stored) {
    const uint32_t at = offset + token * kGroup + (((t / 4) ^ row) * 16 + t % 4 * 4);
#pragma unroll
    for (int h = 0; h < 4; ++h) *reinterpret_cast<uint32_t*>(values + (at ^ (32u * h))) = words[h];
  }
}

// What only tests and other layouts ask for.
static __device__ __noinline__ void store_group(const ResidentArgs& k, int token, int group, int groups, int t,
                                                bool is_stored, uint32_t multiplier, int sum) {
#pragma unroll
  for (int mask = 1; mask < kUnitLanes; mask *= 2) sum += __shfl_xor_sync(~0u, sum, mask);
  multiplier = max(1u, multiplier);
  if (!is_stored || t != 0) return;
  const size_t index = static_cast<size_t>(token) * groups + group;
  if (k.a.out.multipliers != nullptr) k.a.out.multipliers[index] = static_cast<uint8_t>(multiplier);
  if (k.a.out.group_sums != nullptr)
    k.a.out.group_sums[index] = static_cast<int16_t>(sum / static_cast<int>(multiplier));
}

}  // namespace comet::cuda
