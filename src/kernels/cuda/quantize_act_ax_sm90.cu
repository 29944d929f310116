// SPDX-License-Identifier: Apache-2.0
// Hopper's kernel for the rows that quantize_act_resident_sm90.cu does not take: one CTA a token.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/launch.cuh"
#include "kernels/cuda/quantize_act_sm90.h"
#include "kernels/cuda/tile/any_row.cuh"
#include "kernels/cuda/tile/quantize_out_sm90.cuh"

namespace comet::cuda {
namespace {

// Few tokens: a token is all that an SM has, so all its warps share it. Many: smaller CTAs hide each other's barriers.
constexpr int kMostThreads = 768, kManyTokensThreads = 512;
constexpr int kManyTokens = 132;
constexpr int kMostStagedBytes = 227 * 1024 - static_cast<int>(sizeof(RowShared));  // what RowShared leaves of an SM

__global__ void __launch_bounds__(kMostThreads) quantize_act_ax_sm90_kernel(const __grid_constant__ RowArgs k) {
  extern __shared__ __align__(16) char bytes[];
  __shared__ RowShared s;
  ptx::allow_next_kernel();
  ptx::wait_for_previous_kernel();
  AnyRow row(k, bytes, s);
  quantize_rows<0>(k, row, output_sm90(k), s);
}

}  // namespace

void launch_quantize_act_ax_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, cudaStream_t stream) {
  const int row_bytes = p.format.k_in * static_cast<int>(sizeof(float));
  const bool is_staged = wants_staging(p, args) && row_bytes <= kMostStagedBytes;
  static const bool allowed = (allow_shared_bytes(quantize_act_ax_sm90_kernel, kMostStagedBytes), true);
  static_cast<void>(allowed);
  launch_dependent(
      quantize_act_ax_sm90_kernel,
      {padded_tokens(p.m), p.m > kManyTokens ? kManyTokensThreads : kMostThreads, is_staged ? row_bytes : 0, stream},
      make_row_args(p, args, is_staged));
}

}  // namespace comet::cuda
