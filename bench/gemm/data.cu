// SPDX-License-Identifier: Apache-2.0
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "bench/gemm/data.h"
#include "bench/gemm/device_array.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/layouts_sm90.h"
#include "kernels/cuda/ptx/launch.cuh"
#include "quant/fp32.h"

namespace comet::cuda {
namespace {

__device__ uint32_t hash(uint64_t x) {
  x ^= x >> 33, x *= 0xff51afd7ed558ccdull, x ^= x >> 33, x *= 0xc4ceb9fe1a85ec53ull, x ^= x >> 33;
  return static_cast<uint32_t>(x);
}

__device__ float gaussian(uint64_t index, uint32_t seed) {
  const uint64_t key = index * 2 + (static_cast<uint64_t>(seed) << 40);
  const float u = (static_cast<float>(hash(key)) + 0.5f) * 0x1p-32f, v = static_cast<float>(hash(key + 1)) * 0x1p-32f;
  return sqrtf(-2.0f * logf(u)) * cosf(6.2831853f * v);
}

constexpr float kRowMax = 4.2f;  // about the largest of a row of thousands

// One warp a (row, group): lane holds 4 k.
__global__ void weights_kernel(uint8_t* codes, uint8_t* group_scales, uint8_t* group_zeros, float* channel_scales,
                               int n, int k, uint32_t seed) {
  const int groups = k / kGroup, lane = threadIdx.x % 32;
  const int64_t warp = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  if (warp >= static_cast<int64_t>(n) * groups) return;
  float w[4], low = 0.0f, high = 0.0f;
  for (int i = 0; i < 4; ++i) {
    w[i] = clampf(rne(gaussian(warp * kGroup + lane * 4 + i, seed) * (119.0f / kRowMax)), -119.0f, 119.0f);
    low = fminf(low, w[i]), high = fmaxf(high, w[i]);
  }
  for (int mask = 1; mask < 32; mask *= 2) {
    low = fminf(low, __shfl_xor_sync(~0u, low, mask));
    high = fmaxf(high, __shfl_xor_sync(~0u, high, mask));
  }
  const int s1 = max(1, static_cast<int>(ceilf((high - low) / 15.0f)));
  const int z = min(max(static_cast<int>(rne(-low / static_cast<float>(s1))), min_group_zero(s1)), max_group_zero(s1));
  int q[4];
  for (int i = 0; i < 4; ++i) q[i] = min(max(static_cast<int>(rne(w[i] / static_cast<float>(s1))) + z, 0), 15);
  codes[warp * 64 + lane * 2] = pack_nibbles(q[0], q[1]);
  codes[warp * 64 + lane * 2 + 1] = pack_nibbles(q[2], q[3]);
  if (lane == 0) group_scales[warp] = static_cast<uint8_t>(s1), group_zeros[warp] = static_cast<uint8_t>(z);
  if (lane == 0 && warp % groups == 0) channel_scales[warp / groups] = kRowMax / 119.0f * 0.02f;
}

// One CTA a token.
__global__ void activations_kernel(BenchActs out, int m, int k, int n8, int bits2) {
  const int t = blockIdx.x;
  __shared__ uint32_t sum;
  if (threadIdx.x == 0) sum = 0;
  __syncthreads();
  const int factor = n8 > 0 ? 3 : 1;
  for (int c = threadIdx.x; c < k; c += blockDim.x) {
    const float x = gaussian(static_cast<uint64_t>(t) * k + c, 77u);
    const bool region1 = c / kGroup < n8;
    int value;
    if (region1 || bits2 == 8) {
      value = static_cast<int>(clampf(rne(x * (127.0f / kRowMax)), -127.0f, 127.0f));
    } else {
      const int multiplier = 9 + static_cast<int>(hash(static_cast<uint64_t>(t) * 1024 + c / kGroup) % 5);
      value = multiplier * static_cast<int>(clampf(rne(x * (7.0f / 2.7f)), -7.0f, 7.0f));
    }
    out.rows[static_cast<size_t>(t) * k + c] = static_cast<int8_t>(value);
    out.tiles[activation_offset_sm90(out.layout, m, t, c)] = static_cast<int8_t>(value);
    atomicAdd(&sum, static_cast<uint32_t>(region1 ? factor * value : value));
  }
  __syncthreads();
  if (threadIdx.x == 0) out.sums[t] = sum, out.scales[t] = kRowMax / 127.0f, out.factors[t] = factor;
}

// One CTA a token.
__global__ void unpack_kernel(int8_t* rows, const int8_t* tiles, ActLayout layout, int m, int k) {
  const int t = blockIdx.x;
  for (int c = threadIdx.x; c < k; c += blockDim.x)
    rows[static_cast<size_t>(t) * k + c] = tiles[activation_offset_sm90(layout, m, t, c)];
}

__global__ void dense_kernel(void* out, size_t count, DenseType type, uint32_t seed) {
  for (size_t i = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x; i < count;
       i += static_cast<size_t>(gridDim.x) * blockDim.x) {
    const float x = gaussian(i, seed);
    if (type == DenseType::f32) static_cast<float*>(out)[i] = x;
    if (type == DenseType::bf16) static_cast<bf16*>(out)[i] = to_bf16(x);
    if (type == DenseType::f16) static_cast<__half*>(out)[i] = __float2half_rn(x);
    if (type == DenseType::e4m3) static_cast<__nv_fp8_e4m3*>(out)[i] = __nv_fp8_e4m3(x);
    if (type == DenseType::s8)
      static_cast<int8_t*>(out)[i] = static_cast<int8_t>(clampf(rne(x * (127.0f / kRowMax)), -127.0f, 127.0f));
  }
}

struct Nothing {};

__global__ void empty_kernel(const __grid_constant__ Nothing) {
  ptx::allow_next_kernel();
  ptx::wait_for_previous_kernel();
}

__device__ uint64_t nanoseconds() {
  uint64_t t;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
  return t;
}

// From one tick of the coarse nanosecond counter to another.
__global__ void clock_probe_kernel(uint64_t* out) {
  const uint64_t before = nanoseconds();
  uint64_t begin = before, end = before;
  while (begin == before) begin = nanoseconds();
  const int64_t clock_begin = clock64();
  uint64_t last = begin;
  while (end < begin + 20000 || end == last) last = end, end = nanoseconds();
  out[0] = clock64() - clock_begin, out[1] = end - begin;
}

// One warp an output.
__global__ void check_kernel(CheckArgs a, int64_t outputs, bool random, int* wrong) {
  const int64_t warp = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  if (warp >= outputs) return;
  const int64_t index = random ? (static_cast<int64_t>(hash(warp)) * 65536 + hash(warp + (1ll << 40)) % 65536) %
                                     (static_cast<int64_t>(a.m) * a.n)
                               : warp;
  const int64_t t = index / a.n, n = index % a.n;
  uint32_t acc = 0;
  for (int c = threadIdx.x % 32; c < a.k; c += 32) {
    const int64_t group = n * (a.k / kGroup) + c / kGroup;
    const int w = a.codes == nullptr ? a.codes8[n * a.k + c]
                                     : dequantize_w8(unpack_nibble(a.codes + n * (a.k / 2), c), a.group_scales[group],
                                                     a.group_zeros[group]);
    const uint32_t product = static_cast<uint32_t>(w * a.rows[t * a.k + c]);
    acc += c / kGroup < a.num_int8_groups ? product * static_cast<uint32_t>(a.factors[t]) : product;
  }
  for (int mask = 1; mask < 32; mask *= 2) acc += __shfl_xor_sync(~0u, acc, mask);
  const bf16 want = to_bf16((static_cast<float>(static_cast<int32_t>(acc)) * a.scales[t]) * a.channel_scales[n]);
  if (threadIdx.x % 32 == 0 && want.bits != a.d[index]) atomicAdd(wrong, 1);
}

}  // namespace

void make_weights_w4(uint8_t* codes, uint8_t* group_scales, uint8_t* group_zeros, float* channel_scales, int n, int k,
                     uint32_t seed) {
  const int64_t warps = static_cast<int64_t>(n) * (k / kGroup);
  weights_kernel<<<static_cast<int>((warps + 7) / 8), 256>>>(codes, group_scales, group_zeros, channel_scales, n, k,
                                                             seed);
  COMET_CUDA_CHECK(cudaGetLastError());
}

void make_activations(const BenchActs& out, int m, int k, int num_int8_groups, int bits2) {
  activations_kernel<<<m, 256>>>(out, m, k, num_int8_groups, bits2);
  COMET_CUDA_CHECK(cudaGetLastError());
}

void unpack_activations(int8_t* rows, const int8_t* tiles, ActLayout layout, int m, int k) {
  unpack_kernel<<<m, 256>>>(rows, tiles, layout, m, k);
  COMET_CUDA_CHECK(cudaGetLastError());
}

void make_dense(void* out, size_t count, DenseType type, uint32_t seed) {
  dense_kernel<<<2048, 256>>>(out, count, type, seed);
  COMET_CUDA_CHECK(cudaGetLastError());
}

void launch_empty(cudaStream_t stream) { launch_dependent(empty_kernel, {1, 256, 0, stream}, Nothing{}); }

void launch_clock_probe(uint64_t* out, cudaStream_t stream) {
  clock_probe_kernel<<<1, 1, 0, stream>>>(out);
  COMET_CUDA_CHECK(cudaGetLastError());
}

int count_wrong(const CheckArgs& args) {
  DeviceArray<int> wrong(1);
  const int64_t all = static_cast<int64_t>(args.m) * args.n;
  const bool is_random = all > 1000000;
  const int64_t outputs = is_random ? 200000 : all;
  check_kernel<<<static_cast<int>((outputs + 7) / 8), 256>>>(args, outputs, is_random, wrong.data());
  COMET_CUDA_CHECK(cudaGetLastError());
  return wrong.to_host()[0];
}

}  // namespace comet::cuda
