// SPDX-License-Identifier: Apache-2.0
#include <cuda_fp16.h>

#include <cstdint>

#include "bench/gemm/rms_norm.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/launch.cuh"

namespace comet::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kGainPieces = 4;  // of a thread at a time; more would take the row's registers

// One CTA a token. A thread has kPieces pieces of 4 channels, blockDim.x pieces apart.
template <int kPieces>
__global__ void __launch_bounds__(1024) rms_norm_f16_kernel(const __grid_constant__ RmsNormF16Args a) {
  constexpr int kGains = kPieces < kGainPieces ? kPieces : kGainPieces;
  ptx::allow_next_kernel();
  const int pieces = a.k / 4;
  const auto piece = [](int j) { return static_cast<int>(threadIdx.x + j * blockDim.x); };
  uint2 gain[kGains];  // of bf16
  float4 x[kPieces];
  const auto load_gains = [&](int first) {
#pragma unroll
    for (int j = 0; j < kGains; ++j)
      if (const int i = piece(first + j); i < pieces) gain[j] = __ldg(reinterpret_cast<const uint2*>(a.gain) + i);
  };
  load_gains(0);
  ptx::wait_for_previous_kernel();
  const float4* row = reinterpret_cast<const float4*>(a.x) + static_cast<size_t>(blockIdx.x) * pieces;
#pragma unroll
  for (int j = 0; j < kPieces; ++j) {
    const int i = piece(j);
    x[j] = i < pieces ? row[i] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  }
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < kPieces; ++j)
    sum = fmaf(x[j].x, x[j].x, fmaf(x[j].y, x[j].y, fmaf(x[j].z, x[j].z, fmaf(x[j].w, x[j].w, sum))));
  for (int mask = kWarp / 2; mask > 0; mask /= 2) sum += __shfl_xor_sync(~0u, sum, mask);
  __shared__ float sums[kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  if (lane == 0) sums[warp] = sum;
  __syncthreads();
  sum = lane < static_cast<int>(blockDim.x) / kWarp ? sums[lane] : 0.0f;
  for (int mask = kWarp / 2; mask > 0; mask /= 2) sum += __shfl_xor_sync(~0u, sum, mask);
  const float inv = rsqrtf(sum / static_cast<float>(a.k) + a.eps);
  uint2* out = static_cast<uint2*>(a.y) + static_cast<size_t>(blockIdx.x) * pieces;
#pragma unroll
  for (int j = 0; j < kPieces; ++j) {
    if (j > 0 && j % kGains == 0) load_gains(j);
    const float4 v = x[j];
    const uint2 four = gain[j % kGains];
    const auto low_half = [](uint32_t w) { return __uint_as_float(w << 16); };
    const auto high_half = [](uint32_t w) { return __uint_as_float(w & 0xffff0000u); };
    const float4 g = {low_half(four.x), high_half(four.x), low_half(four.y), high_half(four.y)};
    const __half2 low = __floats2half2_rn(v.x * inv * g.x, v.y * inv * g.y);
    const __half2 high = __floats2half2_rn(v.z * inv * g.z, v.w * inv * g.w);
    if (const int i = piece(j); i < pieces)
      out[i] = make_uint2(reinterpret_cast<const uint32_t&>(low), reinterpret_cast<const uint32_t&>(high));
  }
}

template <int kPieces>
bool launch_if_fits(const RmsNormF16Args& args, int least_pieces, cudaStream_t stream) {
  const int pieces = args.k / 4, threads = ((pieces + kPieces - 1) / kPieces + kWarp - 1) / kWarp * kWarp;
  if (kPieces < least_pieces || threads > 1024) return false;
  launch_dependent(rms_norm_f16_kernel<kPieces>, {args.m, threads, 0, stream}, args);
  return true;
}

}  // namespace

void launch_rms_norm_f16(const RmsNormF16Args& args, int sms, cudaStream_t stream) {
  // Few tokens: as many threads as there are; many: more loads of a thread under way.
  const int least = args.m < 2 * sms ? 1 : 4;
  launch_if_fits<1>(args, least, stream) || launch_if_fits<2>(args, least, stream) ||
      launch_if_fits<4>(args, least, stream) || launch_if_fits<8>(args, least, stream);
}

}  // namespace comet::cuda
