// SPDX-License-Identifier: Apache-2.0
// quantize_act by CTAs that take a token at a time: 8 lanes a group, 16 channels a lane (tile/quantize_units.cuh).
//
//   Row     where a group's channels come from: begin(token, count), load(group, t, is_before, x), end(token, count)
//   Output  where codes go: the layout of one architecture
//
//   row.begin | load, rotate, maxima of every unit | barrier | row.end, the token before is finished | scales, codes
#pragma once

#include "kernels/cuda/tile/quantize_units.cuh"

namespace comet::cuda {

struct RowArgs {
  QuantizeActProblem p;
  QuantizeActArgs a;
  ScaleConstants scales;
  float hadamard_scale;
  bool is_staged;                 // AnyRow: the row as floats lies in shared memory
  int row_bytes = 0, stages = 0;  // PickedRow
};

inline RowArgs make_row_args(const QuantizeActProblem& p, const QuantizeActArgs& args, bool is_staged) {
  return {p, args, scale_constants(p.format), hadamard_scale(kGroup), is_staged};
}

// Of a CTA, by the parity of its count of tokens.
constexpr int kMostWarps = 32;
struct RowShared {
  uint2 most[2][kMostWarps];  // bits of the maxima of both regions
  uint32_t sums[2][kMostWarps];
  float chains[kGroup];  // of the stated sum of squares
};

__device__ __forceinline__ size_t row_index(const QuantizeActArgs& a, int token) {
  return a.row_ids != nullptr ? a.row_ids[token] : token;
}

// By all threads: chain j takes x[j], x[j + 128], ..; then every warp walks the halving tree. row is visible to all,
// and chains are free.
__device__ __forceinline__ float rms_inverse_by_cta(const float* row, int n, float eps, float* chains) {
  for (int j = threadIdx.x; j < kGroup; j += blockDim.x) {
    float chain = 0.0f;
#pragma unroll 16
    for (int i = j; i < n; i += kGroup) chain = fmaf(row[i], row[i], chain);
    chains[j] = chain;
  }
  __syncthreads();
  const int lane = threadIdx.x % 32;
  float sum = (chains[lane] + chains[lane + 64]) + (chains[lane + 32] + chains[lane + 96]);
#pragma unroll
  for (int mask = 16; mask >= 1; mask /= 2) sum = sum + __shfl_xor_sync(~0u, sum, mask);
  return rms_inverse(sum, n, eps);
}

// How a group becomes codes.
struct GroupCode {
  float inverse_step, limit;  // 0, 0: all codes are 0
  int multiplier;             // 1 for codes of 8 bits and zeros
};

__device__ __forceinline__ GroupCode group_code(const ActFormat& f, const TokenScales& s, int group, float amax_group,
                                                float amax1, float amax2) {
  const bool is_first = group < f.num_int8_groups;
  if (s.sx == 0.0f || (is_first ? amax1 : amax2) < kMinAmax) return {0.0f, 0.0f, 1};
  if (is_first) return {1.0f / (static_cast<float>(s.r) * s.sx), 127.0f, 1};
  if (f.bits2 == 8) return {1.0f / s.sx, 127.0f, 1};
  const int m = group_multiplier(amax_group, f.clip2, s.sx);
  return {1.0f / (static_cast<float>(m) * s.sx), 7.0f, m};
}

// A lane's channels of a group, rotated; returns the bits of the group's maximum.
template <class Row>
__device__ __forceinline__ uint32_t make_unit(const RowArgs& k, const Row& row, const Rotation& rotation, int group,
                                              float (&x)[kUnit]) {
  const bool is_rotated = k.p.format.rotate && group >= k.p.format.num_int8_groups;
  row.load(group, is_rotated, x);
  rotate_where(is_rotated, x, rotation);
  const uint32_t most[1] = {largest_bits(x)};
  return group_most<1>(most, 0);
}

// The tokens blockIdx.x, + gridDim.x, .. of those of the output. kUnits: groups of a lane, whose channels it keeps
// between the maxima and the codes; 0: as many as the row has, made twice.
template <int kUnits, class Row, class Output>
__device__ __forceinline__ void quantize_rows(const RowArgs& k, Row& row, const Output& out, RowShared& s) {
  constexpr bool kIsKept = kUnits > 0;
  const ActFormat& f = k.p.format;
  const int m = k.p.m, n8 = f.num_int8_groups, groups = f.k / kGroup;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const int units = kIsKept ? kUnits : (groups - 1) / (warps * kWarpGroups) + 1;
  const auto group_of = [&](int unit) { return (unit * warps + warp) * kWarpGroups + lane / kUnitLanes; };
  const Rotation rotation(lane, k.hadamard_scale, Row::is_swapped(lane));
  const auto finish = [&](int token, int parity) {  // by warp 0, behind a barrier
    const uint32_t sum = __reduce_add_sync(~0u, lane < warps ? s.sums[parity][lane] : 0u);
    if (lane == 0) k.a.out.sums[token] = sum;
    out.finish(token, parity, lane);
  };
  int count = 0, token = blockIdx.x;
  for (; token < m; token += gridDim.x, ++count) {
    const int parity = count % 2;
    row.begin(token, count);
    float x[kIsKept ? kUnits : 1][kUnit];
    uint32_t most[kIsKept ? kUnits : 1], most1 = 0, most2 = 0;
    const auto take = [&](int group, uint32_t bits) {
      (group < n8 ? most1 : most2) = max(group < n8 ? most1 : most2, bits);
    };
    if constexpr (kIsKept) {
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        most[u] = make_unit(k, row, rotation, group_of(u), x[u]);
        take(group_of(u), most[u]);
      }
    } else {
#pragma unroll 1
      for (int u = 0; u < units; ++u) take(group_of(u), make_unit(k, row, rotation, group_of(u), x[0]));
    }
    most1 = __reduce_max_sync(~0u, most1), most2 = __reduce_max_sync(~0u, most2);
    if (lane == 0) s.most[parity][warp] = {most1, most2};
    __syncthreads();
    row.end(token, count);
    if (warp == 0 && count > 0) finish(token - gridDim.x, 1 - parity);

    const uint2 v = lane < warps ? s.most[parity][lane] : uint2{0, 0};
    most1 = __reduce_max_sync(~0u, v.x), most2 = __reduce_max_sync(~0u, v.y);
    const bool is_bad = max(most1, most2) >= kNotFinite;
    const float amax1 = float_from_bits(most1), amax2 = float_from_bits(most2);
    const TokenScales scales = is_bad ? TokenScales{0.0f, 1} : scales_of(amax1, amax2, k.scales);
    uint32_t osum = 0;
    const auto encode_unit = [&](int group, uint32_t group_most, const float(&values)[kUnit]) {
      const GroupCode code = group_code(f, scales, group, float_from_bits(group_most), amax1, amax2);
      uint32_t words[4];
      int sum = codes_of(values, code.inverse_step, code.limit, words);
#pragma unroll
      for (int mask = 1; mask < kUnitLanes; mask *= 2) sum += __shfl_xor_sync(~0u, sum, mask);
      out.store(token, parity, group, lane, code.multiplier, words, sum);
      if (lane % kUnitLanes == 0) osum += static_cast<uint32_t>((group < n8 ? scales.r : code.multiplier) * sum);
    };
    if constexpr (kIsKept) {
#pragma unroll
      for (int u = 0; u < kUnits; ++u) encode_unit(group_of(u), most[u], x[u]);
    } else {
#pragma unroll 1
      for (int u = 0; u < units; ++u) {
        const uint32_t bits = make_unit(k, row, rotation, group_of(u), x[0]);
        encode_unit(group_of(u), bits, x[0]);
      }
    }
    osum = __reduce_add_sync(~0u, osum);
    if (lane == 0) s.sums[parity][warp] = osum;
    if (threadIdx.x == 0) {
      k.a.out.scales[token] = scales.sx;
      k.a.out.region1_factors[token] = scales.sx == 0.0f ? 1 : scales.r;
      if (is_bad && k.a.row_errors != nullptr && k.a.row_errors[token] == 0) k.a.row_errors[token] = k.a.error_tag;
    }
  }
  __syncthreads();
  if (warp == 0 && count > 0) finish(token - gridDim.x, (count - 1) % 2);
  for (; token < out.num_tokens(); token += gridDim.x) out.store_padding(token);
}

// What only tests and other layouts ask for; by the first lane of a group.
__device__ __forceinline__ void store_group_sum(const QuantizedActs& out, int token, int groups, int group, int sum) {
  if (out.group_sums != nullptr)
    out.group_sums[static_cast<size_t>(token) * groups + group] = static_cast<int16_t>(sum);
}

}  // namespace comet::cuda
