// SPDX-License-Identifier: Apache-2.0
// quantize_act with the rotated row in registers, for rows whose 16-byte pieces can be copied whole.
//
// Persistent CTAs, a token at a time. 8 lanes share a group: lane t holds the channels 32 h + 4 t + b (h, b = 0..3), so
// that Hadamard strides 1, 2, 32 and 64 stay in the lane, 4, 8 and 16 are shuffles, and 16-byte reads of a row lie side
// by side. A row that is normed or permuted comes by bulk copy, a token ahead; its order and gain do not change from
// token to token, so they are read once. Two barriers a token: behind the norm's sum, behind the maxima.
#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/layouts_sm90.h"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/launch.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/quantize_act_sm90.h"
#include "quant/fp32.h"

namespace comet::cuda {
namespace {

constexpr int kMostThreads = 1024;
constexpr int kUnit = 16;       // channels of a lane
constexpr int kWarpGroups = 4;  // groups of a warp
constexpr int kMostUnitGroups = kMostThreads / 32 * kWarpGroups;
constexpr int kRowPad = 4;  // floats behind a staged row; the first is the 0 of padding channels
constexpr uint32_t kNotFinite = 0x7f800000u;
constexpr float kRoundToInt = 12582912.0f;  // 1.5 * 2^23: adding it rounds to nearest even, the low byte is the integer

struct KernelArgs {
  QuantizeActProblem p;
  QuantizeActArgs a;
  float hadamard_scale;
  int rmax;
};

struct Shared {
  uint64_t full[2];
  float inverse;
  uint2 most[2][32];     // [token parity][warp]: bits of the regions' largest |x|
  uint32_t sums[2][32];  // [token parity][warp]: parts of osum
};

__device__ float load_gain(const void* p, DType type, int i) {
  if (type == DType::f32) return static_cast<const float*>(p)[i];
  if (type == DType::bf16) return to_float(static_cast<const bf16*>(p)[i]);
  return to_float(static_cast<const f16*>(p)[i]);
}

__device__ float bf16_low(uint32_t pair) { return float_from_bits(pair << 16); }
__device__ float bf16_high(uint32_t pair) { return float_from_bits(pair & 0xffff0000u); }

constexpr bool is_half(ActSource source) { return source == ActSource::bf16 || source == ActSource::silu_mul; }
constexpr size_t row_bytes(ActSource source, int k_in) {
  return static_cast<size_t>(k_in) * (source == ActSource::bf16 ? 2 : 4);
}

// The 16 channels of a lane straight from global memory; first: channel of h = 0.
template <ActSource kSource>
__device__ void load_direct(const void* row, int k_in, int first, float (&x)[kUnit]) {
#pragma unroll
  for (int h = 0; h < 4; ++h) {
    const int channel = first + 32 * h;
    float* out = x + 4 * h;
    if (channel >= k_in) {
      out[0] = out[1] = out[2] = out[3] = 0.0f;
    } else if constexpr (is_half(kSource)) {
      const bf16* from = static_cast<const bf16*>(row) + channel;
      const uint2 v = *reinterpret_cast<const uint2*>(from);
      out[0] = bf16_low(v.x), out[1] = bf16_high(v.x), out[2] = bf16_low(v.y), out[3] = bf16_high(v.y);
      if constexpr (kSource == ActSource::silu_mul) {
        const uint2 up = *reinterpret_cast<const uint2*>(from + k_in);
        out[0] = silu(out[0]) * bf16_low(up.x), out[1] = silu(out[1]) * bf16_high(up.x);
        out[2] = silu(out[2]) * bf16_low(up.y), out[3] = silu(out[3]) * bf16_high(up.y);
      }
    } else {
      const float4 v = *reinterpret_cast<const float4*>(static_cast<const float*>(row) + channel);
      out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
    }
  }
}

// One warp; lane l takes the chains 4 l .. 4 l + 3. Sums commute, so every lane ends with the tree's root.
__device__ float sum_of_squares_by_warp(const float* row, int n, int lane) {
  float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 8
  for (int i = lane * 4; i < n; i += kGroup) {
    const float4 v = *reinterpret_cast<const float4*>(row + i);
    c[0] = fmaf(v.x, v.x, c[0]), c[1] = fmaf(v.y, v.y, c[1]);
    c[2] = fmaf(v.z, v.z, c[2]), c[3] = fmaf(v.w, v.w, c[3]);
  }
#pragma unroll
  for (int mask = 16; mask >= 1; mask /= 2)
#pragma unroll
    for (int i = 0; i < 4; ++i) c[i] = c[i] + __shfl_xor_sync(~0u, c[i], mask);
  return (c[0] + c[2]) + (c[1] + c[3]);
}

template <int kStride>
__device__ void rotate_in_lane(float (&x)[kUnit]) {
#pragma unroll
  for (int i = 0; i < kUnit; ++i)
    if ((i & kStride) == 0) {
      const float u = x[i], v = x[i + kStride];
      x[i] = u + v, x[i + kStride] = u - v;
    }
}

__device__ void rotate(float (&x)[kUnit], int lane, float scale) {
  rotate_in_lane<1>(x);
  rotate_in_lane<2>(x);
#pragma unroll
  for (int mask = 1; mask <= 4; mask *= 2) {
    const float sign = (lane & mask) == 0 ? 1.0f : -1.0f;
#pragma unroll
    for (int i = 0; i < kUnit; ++i) x[i] = fmaf(x[i], sign, __shfl_xor_sync(~0u, x[i], mask));  // u + v or u - v
  }
  rotate_in_lane<4>(x);
  rotate_in_lane<8>(x);
#pragma unroll
  for (int i = 0; i < kUnit; ++i) x[i] = x[i] * scale;
}

// Codes times m as bytes, 4 channels a word; returns the sum of the bytes.
__device__ int encode(const float (&x)[kUnit], float inverse_step, float limit, uint32_t multiplier,
                      uint32_t (&words)[4]) {
  int sum = 0;
#pragma unroll
  for (int h = 0; h < 4; ++h) {
    uint32_t byte[4];
#pragma unroll
    for (int b = 0; b < 4; ++b) {
      const float code = fminf(fmaxf(x[4 * h + b] * inverse_step, -limit), limit);
      byte[b] = float_bits(code + kRoundToInt) * multiplier;
    }
    words[h] = __byte_perm(__byte_perm(byte[0], byte[1], 0x0040), __byte_perm(byte[2], byte[3], 0x0040), 0x5410);
    sum = __dp4a(static_cast<int>(words[h]), 0x01010101, sum);
  }
  return sum;
}

__device__ void store_words(const KernelArgs& k, int token, int group, int lane, const uint32_t (&words)[4]) {
  const int row = token % kBlockTokens, t = lane % 8;
  int8_t* block = k.a.out.values +
                  (static_cast<size_t>(group) * padded_tokens(k.p.m) + (token - row)) * static_cast<size_t>(kGroup);
#pragma unroll
  for (int h = 0; h < 4; ++h) {
    const int piece = 2 * h + t / 4;
    const int at = k.p.m > kMaxGemvTokens ? row * kGroup + ((piece ^ row) * 16) + t % 4 * 4
                                          : piece / 4 * 512 + (row * 4 + t % 4) * 16 + piece % 4 * 4;
    *reinterpret_cast<uint32_t*>(block + at) = words[h];
  }
}

template <ActSource kSource, bool kStaged, int kUnits>
__global__ void __launch_bounds__(kMostThreads) quantize_act_resident_kernel(const __grid_constant__ KernelArgs k) {
  constexpr bool kIsNormed = kSource == ActSource::rms_norm;
  extern __shared__ __align__(16) float rows[];  // kStaged: [2][k_in + kRowPad]; normed: then the gain of each channel
  __shared__ Shared s;
  const ActFormat& f = k.p.format;
  const int m = k.p.m, n8 = f.num_int8_groups, groups = f.k / kGroup, warps = blockDim.x / 32, warp = threadIdx.x / 32,
            lane = threadIdx.x % 32, stride = f.k_in + kRowPad;
  const int first_group = warp * kWarpGroups + lane / 8;
  float4* gain = reinterpret_cast<float4*>(rows + 2 * stride) + threadIdx.x * 4;
  uint32_t order[kStaged ? kUnit / 2 : 1];
  const auto row_of = [&](int token) {
    const size_t index = k.a.row_ids != nullptr ? k.a.row_ids[token] : token;
    return static_cast<const char*>(k.a.x) + index * row_bytes(kSource, f.k_in);
  };
  const auto copy_row = [&](int token, int stage) {
    const uint32_t bar = ptx::shared_address(&s.full[stage]), bytes = f.k_in * 4;
    ptx::mbarrier_arrive_expect(bar, bytes);
    ptx::bulk_copy(ptx::shared_address(rows + stage * stride), row_of(token), bytes, bar);
  };
  ptx::allow_next_kernel();
  if constexpr (kStaged) {
    if (threadIdx.x == 0) {
      ptx::mbarrier_init(ptx::shared_address(&s.full[0]), 1);
      ptx::mbarrier_init(ptx::shared_address(&s.full[1]), 1);
      ptx::fence_mbarrier_init();
      rows[f.k_in] = rows[stride + f.k_in] = 0.0f;
    }
#pragma unroll
    for (int h = 0; h < 4; ++h) {
      const int first = first_group * kGroup + 32 * h + 4 * (lane % 8);
      int channel[4] = {first, first + 1, first + 2, first + 3};
      if (k.a.perm != nullptr && first_group < groups) {
        const int4 p = *reinterpret_cast<const int4*>(k.a.perm + first);
        channel[0] = p.x, channel[1] = p.y, channel[2] = p.z, channel[3] = p.w;
      }
      float g[4];
#pragma unroll
      for (int b = 0; b < 4; ++b) {
        const bool is_padding = channel[b] < 0 || channel[b] >= f.k_in;
        g[b] = !kIsNormed || is_padding ? 0.0f : load_gain(k.a.gain, k.a.gain_dtype, channel[b]);
        channel[b] = is_padding ? f.k_in : channel[b];
      }
      order[2 * h] = channel[0] | channel[1] << 16, order[2 * h + 1] = channel[2] | channel[3] << 16;
      if (kIsNormed) gain[h] = {g[0], g[1], g[2], g[3]};
    }
    __syncthreads();
  }
  ptx::wait_for_previous_kernel();
  const int step = gridDim.x;
  if (kStaged && threadIdx.x == 0)
    for (int i = 0; i < 2; ++i)
      if (blockIdx.x + i * step < m) copy_row(blockIdx.x + i * step, i);

  const auto finish_sum = [&](int token, int parity) {
    const uint32_t sum = __reduce_add_sync(~0u, lane < warps ? s.sums[parity][lane] : 0u);
    if (lane == 0) k.a.out.sums[token] = sum;
  };
  int count = 0;
  int token = blockIdx.x;
  for (; token < m; token += step, ++count) {
    const int parity = count % 2;
    const float* row = rows + parity * stride;
    float inverse = 0.0f;
    if constexpr (kStaged) {
      const uint32_t bar = ptx::shared_address(&s.full[parity]), phase = count / 2 % 2;
      ptx::mbarrier_wait(bar, phase);
      if constexpr (kIsNormed) {
        if (warp == 0) {
          const float sum = sum_of_squares_by_warp(row, f.k_in, lane);
          if (lane == 0) s.inverse = rms_inverse(sum, f.k_in, k.a.eps);
        }
        __syncthreads();
        inverse = s.inverse;
      }
    } else if (threadIdx.x == 0 && token + step < m) {
      asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(row_of(token + step)),
                   "r"(static_cast<uint32_t>(row_bytes(kSource, f.k_in))));
    }
    const void* global_row = kStaged ? nullptr : row_of(token);
    const auto load = [&](int group, float(&out)[kUnit]) {
      if constexpr (kStaged) {
#pragma unroll
        for (int h = 0; h < 4; ++h) {
          const uint32_t low = order[2 * h], high = order[2 * h + 1];
          float* x = out + 4 * h;
          x[0] = row[low & 0xffffu], x[1] = row[low >> 16], x[2] = row[high & 0xffffu], x[3] = row[high >> 16];
          if constexpr (kIsNormed) {
            const float4 g = gain[h];
            x[0] = (x[0] * inverse) * g.x, x[1] = (x[1] * inverse) * g.y;
            x[2] = (x[2] * inverse) * g.z, x[3] = (x[3] * inverse) * g.w;
          }
        }
      } else {
        load_direct<kSource>(global_row, f.k_in, group * kGroup + 4 * (lane % 8), out);
      }
    };
    float x[kUnits][kUnit];
    uint32_t most[kUnits], most1 = 0, most2 = 0;
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      const int group = first_group + u * warps * kWarpGroups;
      load(group, x[u]);
      const bool is_rotated = f.rotate && group >= n8;
      if (__any_sync(~0u, is_rotated)) {
        rotate(x[u], lane, k.hadamard_scale);
        if (!is_rotated) load(group, x[u]);  // where the regions meet
      }
      most[u] = 0;  // bits of |x|: in the order of the numbers, those that are not finite on top
#pragma unroll
      for (int i = 0; i < kUnit; ++i) most[u] = max(most[u], float_bits(x[u][i]) & 0x7fffffffu);
#pragma unroll
      for (int mask = 1; mask <= 4; mask *= 2) most[u] = max(most[u], __shfl_xor_sync(~0u, most[u], mask));
      if (group < n8)
        most1 = max(most1, most[u]);
      else
        most2 = max(most2, most[u]);
    }
    most1 = __reduce_max_sync(~0u, most1);
    most2 = __reduce_max_sync(~0u, most2);
    if (lane == 0) s.most[parity][warp] = {most1, most2};
    __syncthreads();
    if (kStaged && threadIdx.x == 0 && token + 2 * step < m) copy_row(token + 2 * step, parity);
    if (warp == 0 && count > 0) finish_sum(token - step, 1 - parity);
    const uint2 slot = lane < warps ? s.most[parity][lane] : uint2{0, 0};
    most1 = __reduce_max_sync(~0u, slot.x);
    most2 = __reduce_max_sync(~0u, slot.y);
    const bool is_bad = max(most1, most2) >= kNotFinite;
    const float amax1 = float_from_bits(most1), amax2 = float_from_bits(most2);
    const TokenScales scales =
        is_bad ? TokenScales{0.0f, 1} : token_scales(amax1, amax2, f.clip1, f.clip2, region2_limit(f.bits2), k.rmax);
    uint32_t osum = 0;
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      const int group = first_group + u * warps * kWarpGroups;
      const bool is_first = group < n8, is_4bit = !is_first && f.bits2 == 4;
      const bool is_zero = scales.sx == 0.0f || (is_first ? amax1 : amax2) < kMinAmax;
      int multiplier = 1;
      float inverse_step = 0.0f;
      if (!is_zero) {
        if (is_4bit) multiplier = group_multiplier(float_from_bits(most[u]), f.clip2, scales.sx);
        inverse_step = 1.0f / (static_cast<float>(is_first ? scales.r : multiplier) * scales.sx);
      }
      uint32_t words[4];
      const int sum = encode(x[u], inverse_step, is_4bit ? 7.0f : 127.0f, is_zero ? 0 : multiplier, words);
      osum += static_cast<uint32_t>((is_first ? scales.r : 1) * sum);
      if (group < groups) store_words(k, token, group, lane, words);
      if (k.a.out.multipliers != nullptr && group < groups && lane % 8 == 0)
        k.a.out.multipliers[static_cast<size_t>(token) * groups + group] = static_cast<uint8_t>(multiplier);
      if (k.a.out.group_sums != nullptr) {
        int total = sum;
#pragma unroll
        for (int mask = 1; mask <= 4; mask *= 2) total += __shfl_xor_sync(~0u, total, mask);
        if (group < groups && lane % 8 == 0)
          k.a.out.group_sums[static_cast<size_t>(token) * groups + group] = static_cast<int16_t>(total / multiplier);
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
  if (warp == 0 && count > 0) finish_sum(token - step, (count - 1) % 2);
  const uint32_t zeros[4] = {0, 0, 0, 0};
  for (; token < padded_tokens(m); token += step) {
    for (int group = first_group; group < groups; group += warps * kWarpGroups)
      store_words(k, token, group, lane, zeros);
    if (threadIdx.x == 0) k.a.out.scales[token] = 0.0f, k.a.out.region1_factors[token] = 1, k.a.out.sums[token] = 0;
  }
}

template <ActSource kSource, bool kStaged, int kUnits>
void launch(const KernelArgs& k, cudaStream_t stream) {
  constexpr auto kernel = quantize_act_resident_kernel<kSource, kStaged, kUnits>;
  static const int sms = [] {
    int device = 0, count = 0;
    COMET_CUDA_CHECK(cudaGetDevice(&device));
    COMET_CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
    if (kStaged) allow_shared_bytes(kernel, kMostRowBytes - static_cast<int>(sizeof(Shared)));
    return count;
  }();
  const ActFormat& f = k.p.format;
  const int warps = (f.num_groups() + kWarpGroups * kUnits - 1) / (kWarpGroups * kUnits), threads = warps * 32;
  const int gain_floats = kSource == ActSource::rms_norm ? threads * kUnit : 0;
  const int bytes = kStaged ? (2 * (f.k_in + kRowPad) + gain_floats) * 4 : 0;
  const int by_threads = kMostThreads / threads, by_shared = kMostRowBytes / (bytes + 2048);  // 64 registers a thread
  const int per_sm = std::clamp(std::min(by_threads, by_shared), 1, 16);
  launch_dependent(kernel, {std::min(padded_tokens(k.p.m), sms * per_sm), threads, bytes, stream}, k);
}

template <ActSource kSource>
void launch_direct(const KernelArgs& k, cudaStream_t stream) {
  if (k.p.format.num_groups() <= kMostUnitGroups)
    launch<kSource, false, 1>(k, stream);
  else
    launch<kSource, false, 2>(k, stream);
}

}  // namespace

bool keeps_row_in_registers(const QuantizeActProblem& p, const QuantizeActArgs& args) {
  const bool is_staged = stages_row(p, args);
  return p.m > 0 && p.format.k_in % 8 == 0 && reinterpret_cast<uintptr_t>(args.x) % 16 == 0 &&
         p.format.num_groups() <= kMostUnitGroups * (is_staged ? 1 : 2) && !(is_staged && is_half(p.source));
}

void launch_quantize_act_resident_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, cudaStream_t stream) {
  const KernelArgs k{p, args, hadamard_scale(kGroup), max_region1_factor(p.format)};
  switch (p.source) {
    case ActSource::rms_norm: return launch<ActSource::rms_norm, true, 1>(k, stream);
    case ActSource::silu_mul: return launch_direct<ActSource::silu_mul>(k, stream);
    case ActSource::bf16: return launch_direct<ActSource::bf16>(k, stream);
    case ActSource::f32:
      return args.perm != nullptr ? launch<ActSource::f32, true, 1>(k, stream)
                                  : launch_direct<ActSource::f32>(k, stream);
  }
}

}  // namespace comet::cuda
