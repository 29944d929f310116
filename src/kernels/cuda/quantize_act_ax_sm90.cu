// SPDX-License-Identifier: Apache-2.0
// One CTA a token: the row (staged in shared memory where it is permuted or normed), then a warp a group: lane l holds
// the channels 4 l .. 4 l + 3, so that Hadamard strides 1 and 2 stay in the lane and 4 .. 64 are shuffles.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/layouts_sm90.h"
#include "kernels/cuda/ptx/launch.cuh"
#include "kernels/cuda/quantize_act_sm90.h"
#include "quant/fp32.h"

namespace comet::cuda {
namespace {

// Few tokens: a token is all that an SM has, so all its warps share it. Many: smaller CTAs hide each other's barriers.
constexpr int kMostThreads = 1024, kManyTokensThreads = 512;
constexpr int kManyTokens = 132;
constexpr int kChains = 128;  // of the stated sum of squares

struct KernelArgs {
  QuantizeActProblem p;
  QuantizeActArgs a;
  float hadamard_scale;
  int rmax;
  bool is_staged;  // the row goes through shared memory before it is permuted
};

struct Shared {
  float amax[2];
  uint32_t sum;
  int is_bad;
  float inverse;
  float chains[kChains];
};

__device__ float load_as_float(const void* p, DType type, size_t i) {
  if (type == DType::f32) return static_cast<const float*>(p)[i];
  if (type == DType::bf16) return to_float(static_cast<const bf16*>(p)[i]);
  return to_float(static_cast<const f16*>(p)[i]);
}

// A channel of the source row before permutation (rms_norm: before the norm).
__device__ float source(const KernelArgs& k, size_t row, int channel) {
  const size_t k_in = k.p.format.k_in;
  switch (k.p.source) {
    case ActSource::bf16: return to_float(static_cast<const bf16*>(k.a.x)[row * k_in + channel]);
    case ActSource::silu_mul: {
      const bf16* gate = static_cast<const bf16*>(k.a.x) + row * 2 * k_in + channel;
      return silu(to_float(gate[0])) * to_float(gate[k_in]);
    }
    default: return static_cast<const float*>(k.a.x)[row * k_in + channel];
  }
}

// Chain j takes x[j], x[j + 128], ..; then the halving tree 64, 32, .. 1, by one warp.
__device__ void compute_rms_inverse(const KernelArgs& k, const float* row, Shared& s) {
  const int n = k.p.format.k_in;
  if (threadIdx.x < kChains) {
    float chain = 0.0f;
#pragma unroll 8
    for (int i = threadIdx.x; i < n; i += kChains) chain = fmaf(row[i], row[i], chain);
    s.chains[threadIdx.x] = chain;
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    const int lane = threadIdx.x;
    float sum = (s.chains[lane] + s.chains[lane + 64]) + (s.chains[lane + 32] + s.chains[lane + 96]);
    for (int half = 16; half >= 1; half /= 2) sum = sum + __shfl_down_sync(~0u, sum, half);
    if (lane == 0) s.inverse = rms_inverse(sum, n, k.a.eps);
  }
  __syncthreads();
}

__device__ void stage_row(const KernelArgs& k, size_t row_index, float* row, Shared& s) {
  const int n = k.p.format.k_in, threads = blockDim.x;
  const bool is_float = k.p.source == ActSource::f32 || k.p.source == ActSource::rms_norm;
  if (is_float && n % 4 == 0) {
    const float4* from = reinterpret_cast<const float4*>(static_cast<const float*>(k.a.x) + row_index * n);
#pragma unroll 4
    for (int i = threadIdx.x; i < n / 4; i += threads) reinterpret_cast<float4*>(row)[i] = from[i];
  } else {
    for (int i = threadIdx.x; i < n; i += threads) row[i] = source(k, row_index, i);
  }
  __syncthreads();
  if (k.p.source != ActSource::rms_norm) return;
  compute_rms_inverse(k, row, s);
#pragma unroll 4
  for (int i = threadIdx.x; i < n; i += threads)
    row[i] = (row[i] * s.inverse) * load_as_float(k.a.gain, k.a.gain_dtype, i);
  __syncthreads();
}

// The 4 channels of a lane after permutation.
__device__ void gather(const KernelArgs& k, size_t row_index, const float* row, int first, float (&x)[4]) {
  int channels[4];
  if (k.a.perm != nullptr) {
    const int4 p = *reinterpret_cast<const int4*>(k.a.perm + first);
    channels[0] = p.x, channels[1] = p.y, channels[2] = p.z, channels[3] = p.w;
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) channels[i] = first + i < k.p.format.k_in ? first + i : -1;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int channel = channels[i];
    x[i] = channel < 0 ? 0.0f : (k.is_staged ? row[channel] : source(k, row_index, channel));
  }
}

__device__ void rotate(float (&x)[4], int lane, float scale) {
  float u = x[0], v = x[1];
  x[0] = u + v, x[1] = u - v;
  u = x[2], v = x[3];
  x[2] = u + v, x[3] = u - v;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    u = x[i], v = x[i + 2];
    x[i] = u + v, x[i + 2] = u - v;
  }
#pragma unroll
  for (int mask = 1; mask < 32; mask *= 2)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float other = __shfl_xor_sync(~0u, x[i], mask);
      x[i] = (lane & mask) == 0 ? x[i] + other : other - x[i];
    }
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] = x[i] * scale;
}

__device__ float warp_max(float v) {
  for (int mask = 16; mask >= 1; mask /= 2) v = fmaxf(v, __shfl_xor_sync(~0u, v, mask));
  return v;
}

__device__ int warp_sum(int v) {
  for (int mask = 16; mask >= 1; mask /= 2) v += __shfl_xor_sync(~0u, v, mask);
  return v;
}

// Codes of a lane's 4 channels, times m, as bytes; returns the group's sum of codes.
__device__ int encode(const float (&x)[4], float step, float limit, int multiplier, uint32_t& bytes) {
  const float inv = 1.0f / step;
  int sum = 0;
  bytes = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int code = static_cast<int>(clampf(rne(x[i] * inv), -limit, limit));
    sum += code;
    bytes |= (static_cast<uint32_t>(code * multiplier) & 255u) << (8 * i);
  }
  return warp_sum(sum);
}

struct GroupCode {
  float step, limit;
  int multiplier;  // of the codes in values and osum
  bool is_zero;
};

__device__ GroupCode group_code(const ActFormat& f, const TokenScales& s, int group, float amax_group, float amax1,
                                float amax2) {
  if (group < f.num_int8_groups) return {static_cast<float>(s.r) * s.sx, 127.0f, 1, amax1 < kMinAmax};
  if (f.bits2 == 8) return {s.sx, 127.0f, 1, amax2 < kMinAmax};
  const int m = group_multiplier(amax_group, f.clip2, s.sx);
  return {static_cast<float>(m) * s.sx, 7.0f, m, amax2 < kMinAmax};
}

__global__ void __launch_bounds__(kMostThreads) quantize_act_ax_sm90_kernel(const __grid_constant__ KernelArgs k) {
  extern __shared__ float buffer[];  // x[k] after rotation, amax[groups], then the staged row
  __shared__ Shared s;
  const ActFormat& f = k.p.format;
  const int groups = f.k / kGroup, token = blockIdx.x, warps = blockDim.x / 32, warp = threadIdx.x / 32,
            lane = threadIdx.x % 32;
  float* amax = buffer + f.k;
  float* row = amax + round_up(groups, 4);
  const bool is_padding = token >= k.p.m;
  ptx::allow_next_kernel();
  ptx::wait_for_previous_kernel();
  if (threadIdx.x == 0) s.amax[0] = s.amax[1] = 0.0f, s.sum = 0u, s.is_bad = is_padding;
  __syncthreads();
  if (!is_padding) {
    const size_t row_index = k.a.row_ids != nullptr ? k.a.row_ids[token] : token;
    if (k.is_staged) stage_row(k, row_index, row, s);
    for (int g = warp; g < groups; g += warps) {
      float x[4];
      gather(k, row_index, row, g * kGroup + lane * 4, x);
      if (f.rotate && g >= f.num_int8_groups) rotate(x, lane, k.hadamard_scale);
      const bool is_fine = is_finite(x[0]) && is_finite(x[1]) && is_finite(x[2]) && is_finite(x[3]);
      if (!__all_sync(~0u, is_fine) && lane == 0) s.is_bad = 1;
      const float most = warp_max(fmaxf(fmaxf(fabsf(x[0]), fabsf(x[1])), fmaxf(fabsf(x[2]), fabsf(x[3]))));
      *reinterpret_cast<float4*>(&buffer[g * kGroup + lane * 4]) = {x[0], x[1], x[2], x[3]};
      if (lane == 0) {
        amax[g] = most;  // non-negative floats order like their bits
        atomicMax(reinterpret_cast<int*>(&s.amax[g < f.num_int8_groups ? 0 : 1]), __float_as_int(most));
      }
    }
  }
  __syncthreads();
  const TokenScales scales = s.is_bad
                                 ? TokenScales{0.0f, 1}
                                 : token_scales(s.amax[0], s.amax[1], f.clip1, f.clip2, region2_limit(f.bits2), k.rmax);
  uint32_t osum = 0;
  for (int g = warp; g < groups; g += warps) {
    uint32_t bytes = 0;
    int sum = 0, multiplier = 1;
    if (scales.sx != 0.0f) {
      const GroupCode code = group_code(f, scales, g, amax[g], s.amax[0], s.amax[1]);
      if (!code.is_zero) {
        const float4 v = *reinterpret_cast<const float4*>(&buffer[g * kGroup + lane * 4]);
        const float x[4] = {v.x, v.y, v.z, v.w};
        sum = encode(x, code.step, code.limit, code.multiplier, bytes);
        multiplier = code.multiplier;
        osum += static_cast<uint32_t>((g < f.num_int8_groups ? scales.r : multiplier) * sum);
      }
    }
    *reinterpret_cast<uint32_t*>(k.a.out.values + activation_offset_sm90(k.p.m, token, g * kGroup + lane * 4)) = bytes;
    if (lane == 0 && !is_padding) {
      const size_t at = static_cast<size_t>(token) * groups + g;
      if (k.a.out.multipliers != nullptr) k.a.out.multipliers[at] = static_cast<uint8_t>(multiplier);
      if (k.a.out.group_sums != nullptr) k.a.out.group_sums[at] = static_cast<int16_t>(sum);
    }
  }
  if (lane == 0) atomicAdd(&s.sum, osum);
  __syncthreads();
  if (threadIdx.x == 0) {
    k.a.out.scales[token] = scales.sx;
    k.a.out.region1_factors[token] = scales.sx == 0.0f ? 1 : scales.r;
    k.a.out.sums[token] = s.sum;
    if (s.is_bad && !is_padding && k.a.row_errors != nullptr && k.a.row_errors[token] == 0)
      k.a.row_errors[token] = k.a.error_tag;
  }
}

}  // namespace

void launch_quantize_act_ax_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, int shared_bytes,
                                 cudaStream_t stream) {
  const KernelArgs k{p, args, hadamard_scale(kGroup), max_region1_factor(p.format), stages_row(p, args)};
  static const bool allowed = (allow_shared_bytes(quantize_act_ax_sm90_kernel, kMostRowBytes), true);
  static_cast<void>(allowed);
  launch_dependent(quantize_act_ax_sm90_kernel,
                   {padded_tokens(p.m), p.m > kManyTokens ? kManyTokensThreads : kMostThreads, shared_bytes, stream},
                   k);
}

}  // namespace comet::cuda
