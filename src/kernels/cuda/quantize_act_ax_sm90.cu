// SPDX-License-Identifier: Apache-2.0
// Hopper's kernel for the rows that quantize_act_resident_sm90.cu does not take: one CTA a token.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/layouts_sm90.h"
#include "kernels/cuda/ptx/launch.cuh"
#include "kernels/cuda/quantize_act_sm90.h"
#include "kernels/cuda/tile/any_row.cuh"

namespace comet::cuda {
namespace {

// Few tokens: a token is all that an SM has, so all its warps share it. Many: smaller CTAs hide each other's barriers.
constexpr int kMostThreads = 1024, kManyTokensThreads = 512;
constexpr int kManyTokens = 132;

struct OutputSm90 {
  QuantizedActs out;
  int m, groups, bits2, n8;

  __device__ int num_tokens() const { return padded_tokens(m); }

  // Codes times the multiplier: as bytes from 0, so that one multiplication makes four without carries.
  __device__ __forceinline__ void store(int token, int, int group, int lane, int multiplier, const uint32_t (&words)[4],
                                        int sum) const {
    if (group >= groups) return;
    const int t = lane % kUnitLanes;
    const uint32_t limit = group < n8 || bits2 == 8 ? 127u : 7u, scale = static_cast<uint32_t>(multiplier);
#pragma unroll
    for (int h = 0; h < 4; ++h) {
      const uint32_t from_zero = (words[h] ^ 0x80808080u) - (128u - limit) * 0x01010101u;
      *reinterpret_cast<uint32_t*>(out.values +
                                   activation_offset_sm90(m, token, group * kGroup + channel_after(4 * h, t))) =
          (from_zero * scale + (128u - limit * scale) * 0x01010101u) ^ 0x80808080u;
    }
    if (t != 0) return;
    if (out.multipliers != nullptr)
      out.multipliers[static_cast<size_t>(token) * groups + group] = static_cast<uint8_t>(multiplier);
    store_group_sum(out, token, groups, group, sum);
  }

  __device__ void finish(int, int, int) const {}

  __device__ void store_padding(int token) const {
    for (int k = threadIdx.x * 4; k < groups * kGroup; k += blockDim.x * 4)
      *reinterpret_cast<uint32_t*>(out.values + activation_offset_sm90(m, token, k)) = 0;
    if (threadIdx.x == 0) out.scales[token] = 0.0f, out.region1_factors[token] = 1, out.sums[token] = 0;
  }
};

__global__ void __launch_bounds__(kMostThreads) quantize_act_ax_sm90_kernel(const __grid_constant__ RowArgs k) {
  extern __shared__ __align__(16) float staged[];
  __shared__ RowShared s;
  ptx::allow_next_kernel();
  ptx::wait_for_previous_kernel();
  const ActFormat& f = k.p.format;
  AnyRow row(k, staged, s);
  quantize_rows<0>(k, row, OutputSm90{k.a.out, k.p.m, f.k / kGroup, f.bits2, f.num_int8_groups}, s);
}

}  // namespace

void launch_quantize_act_ax_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, cudaStream_t stream) {
  const int row_bytes = p.format.k_in * static_cast<int>(sizeof(float));
  const bool is_staged = wants_staging(p, args) && row_bytes <= kMostRowBytes;
  static const bool allowed = (allow_shared_bytes(quantize_act_ax_sm90_kernel, kMostRowBytes), true);
  static_cast<void>(allowed);
  launch_dependent(
      quantize_act_ax_sm90_kernel,
      {padded_tokens(p.m), p.m > kManyTokens ? kManyTokensThreads : kMostThreads, is_staged ? row_bytes : 0, stream},
      make_row_args(p, args, is_staged));
}

}  // namespace comet::cuda
