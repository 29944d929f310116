// SPDX-License-Identifier: Apache-2.0
// Canonical weights and activations -> the byte orders of layouts_sm80.h, on the device.
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/gemm_sm80.h"

namespace comet::cuda {
namespace {

constexpr int kPackThreads = 256;

// One CTA a group of 128 rows. A word of codes keeps its bytes; only its place changes.
__global__ void pack_w4ax_sm80_kernel(W4axWeights w, uint8_t* packed) {
  const int groups = w.k / kGroup, group = blockIdx.x % groups, row0 = blockIdx.x / groups * kTileRowsSm80;
  for (int i = threadIdx.x; i < kTileRowsSm80 * kGroup / 8; i += kPackThreads) {
    const int row = row0 + i / (kGroup / 8), k = group * kGroup + i % (kGroup / 8) * 8;
    const uint32_t word =
        row < w.n ? *reinterpret_cast<const uint32_t*>(w.codes + static_cast<size_t>(row) * (w.k / 2) + k / 2) : 0u;
    *reinterpret_cast<uint32_t*>(packed + weight_offset_sm80(w.k, row, k)) = word;
  }
  if (threadIdx.x < kTileRowsSm80) {
    const int row = row0 + threadIdx.x;
    const size_t at = static_cast<size_t>(row) * groups + group;
    packed[weight_params_offset_sm80(w.k, row, group)] =
        row < w.n ? pack_group_params(w.group_scales[at], w.group_zeros[at]) : uint8_t{0};
  }
}

// One CTA a zero block of 128 rows: c = 128 - z * s1, 0 behind the last group and the last row.
__global__ void pack_zeros_sm80_kernel(W4axWeights w, uint8_t* packed) {
  const int groups = w.k / kGroup, blocks = num_zero_blocks(groups);
  const int block = blockIdx.x % blocks, row0 = blockIdx.x / blocks * kTileRowsSm80;
  for (int i = threadIdx.x; i < kTileRowsSm80 * kZeroGroups; i += kPackThreads) {
    const int row = row0 + i / kZeroGroups, group = block * kZeroGroups + i % kZeroGroups;
    const size_t at = static_cast<size_t>(row) * groups + group;
    packed[weight_zero_offset_sm80(w.k, row, group)] =
        row < w.n && group < groups ? static_cast<uint8_t>(128 - w.group_zeros[at] * w.group_scales[at]) : uint8_t{0};
  }
}

struct ActSource {
  QuantizedActs rows;
  StepsSm80 steps;
  int m, token;

  __device__ int value(int k) const {
    return token < m ? rows.values[static_cast<size_t>(token) * steps.groups * kGroup + k] : 0;
  }
  __device__ size_t group_at(int group) const { return static_cast<size_t>(token) * steps.groups + group; }
  __device__ int multiplier(int group) const { return token < m ? rows.multipliers[group_at(group)] : 1; }
  // m * asum of a 4-bit group.
  __device__ int weighted_sum(int group) const {
    if (token >= m || group < steps.int8_groups || group >= steps.groups) return 0;
    return rows.group_sums[group_at(group)] * rows.multipliers[group_at(group)];
  }

  // Word `word` of lane quarter t in a step's slab.
  __device__ uint32_t slab_word(int step, int t, int word) const {
    uint32_t bits = 0;
    const StepKind kind = step_kind(steps, step);
    if (kind == StepKind::int8) {
      const int k = step * (kGroup / 2) + word / 2 * 32 + t * 8 + word % 2;
      for (int b = 0; b < 4; ++b) bits |= static_cast<uint32_t>(value(k + 2 * b) & 255) << (8 * b);
    } else if (kind == StepKind::int4) {
      const int group = step - steps.int8_steps - steps.zero_steps + steps.int8_groups, m_g = multiplier(group);
      for (int i = 0; i < 8; ++i)
        bits |= static_cast<uint32_t>(value(group * kGroup + word * 32 + t * 8 + i) / m_g & 15) << (4 * i);
    } else {
      const int group = (steps.first_zero + step - steps.int8_steps) * kZeroGroups + word % 2 * 16 + t * 4;
      for (int b = 0; b < 4; ++b) {
        const int v = weighted_sum(group + b);
        bits |= static_cast<uint32_t>((word < 2 ? zero_high(v) : zero_low(v)) & 255) << (8 * b);
      }
    }
    return bits;
  }
};

// One CTA 16 tokens of a step: a thread a word; the first threads also copy the group's multipliers.
__global__ void pack_acts_sm80_kernel(QuantizedActs rows, int m, StepsSm80 steps, QuantizedActs packed) {
  const int step = blockIdx.x, token = blockIdx.y * kTokenPadSm80 + threadIdx.x / 16;
  const int t = threadIdx.x % 16 / 4, word = threadIdx.x % 4;
  uint8_t* slab = reinterpret_cast<uint8_t*>(packed.values) + step * slab_bytes_sm80(m);
  *reinterpret_cast<uint32_t*>(slab + slab_offset_sm80(token, t, word)) =
      ActSource{rows, steps, m, token}.slab_word(step, t, word);
  if (threadIdx.x < kTokenPadSm80 && step < steps.groups) {
    const int first = blockIdx.y * kTokenPadSm80 + threadIdx.x;
    packed.multipliers[static_cast<size_t>(step) * padded_tokens_sm80(m) + first] =
        static_cast<uint8_t>(ActSource{rows, steps, m, first}.multiplier(step));
  }
}

}  // namespace

void pack_w4ax_sm80(const W4axWeights& w, void* packed, cudaStream_t stream) {
  const int row_tiles = round_up(w.n, kTileRowsSm80) / kTileRowsSm80, groups = w.k / kGroup;
  uint8_t* to = static_cast<uint8_t*>(packed);
  pack_w4ax_sm80_kernel<<<row_tiles * groups, kPackThreads, 0, stream>>>(w, to);
  COMET_CUDA_CHECK(cudaGetLastError());
  pack_zeros_sm80_kernel<<<row_tiles * num_zero_blocks(groups), kPackThreads, 0, stream>>>(w, to);
  COMET_CUDA_CHECK(cudaGetLastError());
}

void pack_acts_sm80(const QuantizedActs& rows, int m, const StepsSm80& steps, const QuantizedActs& packed,
                    cudaStream_t stream) {
  const dim3 grid(steps.total, padded_tokens_sm80(m) / kTokenPadSm80);
  pack_acts_sm80_kernel<<<grid, kPackThreads, 0, stream>>>(rows, m, steps, packed);
  COMET_CUDA_CHECK(cudaGetLastError());
}

}  // namespace comet::cuda
