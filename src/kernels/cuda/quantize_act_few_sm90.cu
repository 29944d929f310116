// SPDX-License-Identifier: Apache-2.0
// quantize_act of few normed rows: what counts is how long one token takes.
//
// A cluster a token, a warp a group, 4 channels a lane, picked from global memory straight into registers; four more
// warps sum the squares. What does not depend on the kernel before lies in front of the wait for it.
//
//   order, gains, addresses | wait | pick; squares | barrier | norm, rotate | maxima to every CTA | scales, codes
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/layouts_sm90.h"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/exchange.cuh"
#include "kernels/cuda/ptx/launch.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/quantize_act_sm90.h"
#include "kernels/cuda/tile/quantize_cta_sm90.cuh"
#include "kernels/cuda/tile/quantize_rows_sm90.cuh"

namespace comet::cuda {
namespace {

constexpr int kLaneChannels = kGroup / 32;
constexpr int kHelperWarps = 4;
constexpr int kMostSlots = 8 * kMostFewGroups + 1;

// Lane l holds channels 4 l .. 4 l + 3: strides 1 and 2 meet in the lane, 4 .. 64 across lanes.
__device__ __forceinline__ void rotate_across_warp(float (&x)[kLaneChannels], int lane, float scale) {
#pragma unroll
  for (int i = 0; i < kLaneChannels; i += 2) {
    const float u = x[i], v = x[i + 1];
    x[i] = u + v, x[i + 1] = u - v;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float u = x[i], v = x[i + 2];
    x[i] = u + v, x[i + 2] = u - v;
  }
#pragma unroll
  for (int mask = 1; mask < 32; mask *= 2) {
    const float sign = (lane & mask) != 0 ? -1.0f : 1.0f;  // times 1 or -1 is exact: one rounding, of u + v or u - v
#pragma unroll
    for (int i = 0; i < kLaneChannels; ++i) x[i] = fmaf(x[i], sign, __shfl_xor_sync(~0u, x[i], mask));
  }
#pragma unroll
  for (int i = 0; i < kLaneChannels; ++i) x[i] = x[i] * scale;
}

template <typename T>
__device__ __forceinline__ void pick_four(const void* from, const int4& c, float (&gain)[kLaneChannels]) {
  const T* g = static_cast<const T*>(from);
  gain[0] = c.x < 0 ? 0.0f : to_float(g[c.x]), gain[1] = c.y < 0 ? 0.0f : to_float(g[c.y]);
  gain[2] = c.z < 0 ? 0.0f : to_float(g[c.z]), gain[3] = c.w < 0 ? 0.0f : to_float(g[c.w]);
}

template <int kThreads, int kCtasPerSm>
__global__ void __launch_bounds__(kThreads, kCtasPerSm)
    quantize_act_few_kernel(const __grid_constant__ ResidentArgs k) {
  __shared__ uint64_t exchanged;
  __shared__ float chains[kGroup];
  __shared__ uint32_t most[kMostSlots];  // of every group of the token; the last: its sum in memory is 0
  const ActFormat& f = k.p.format;
  const int m = k.p.m, n8 = f.num_int8_groups, groups = f.k / kGroup, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int cluster = k.cluster, rank = blockIdx.x % cluster, token = blockIdx.x / cluster;
  const int group = rank * k.cta_groups + warp;
  const bool is_helper = warp >= k.cta_groups, has_group = !is_helper && group < groups;
  ptx::allow_next_kernel();
  const size_t offset =
      has_group ? activation_offset_sm90(k.a.out.layout, m, token, group * kGroup + lane * kLaneChannels) : 0;
  uint32_t* const word = reinterpret_cast<uint32_t*>(k.a.out.values + offset);
  if (token >= m) {
    ptx::wait_for_previous_kernel();
    if (has_group) *word = 0;
    if (threadIdx.x == 0 && rank == 0)
      k.a.out.scales[token] = 0.0f, k.a.out.region1_factors[token] = 1, k.a.out.sums[token] = 0;
    return;
  }

  const uint32_t bar = ptx::shared_address(&exchanged);
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(bar, 1);
    ptx::fence_mbarrier_init();
  }
  int4 channels{-1, -1, -1, -1};
  float gain[kLaneChannels] = {0.0f, 0.0f, 0.0f, 0.0f};
  if (has_group) {
    const int first = group * kGroup + lane * kLaneChannels;
    channels = k.a.perm != nullptr ? *reinterpret_cast<const int4*>(k.a.perm + first)
                                   : int4{first, first + 1, first + 2, first + 3};
    for (int* c : {&channels.x, &channels.y, &channels.z, &channels.w})
      if (*c >= f.k_in) *c = -1;
    if (k.a.gain_dtype == DType::f32)
      pick_four<float>(k.a.gain, channels, gain);
    else if (k.a.gain_dtype == DType::bf16)
      pick_four<bf16>(k.a.gain, channels, gain);
    else
      pick_four<f16>(k.a.gain, channels, gain);
  }
  __syncthreads();
  if (threadIdx.x == 0) ptx::mbarrier_arrive_expect(bar, (groups + 1) * 4);
  ptx::cluster_meet();
  ptx::wait_for_previous_kernel();

  const size_t row_index = k.a.row_ids != nullptr ? k.a.row_ids[token] : token;
  const float* const row = static_cast<const float*>(k.a.x) + row_index * f.k_in;
  // Of the maximum of a group, by the first lanes of a warp.
  const auto send = [&](int slot, uint32_t v) {
    if (lane < cluster)
      ptx::store_async_u32(ptx::map_to_cta(ptx::shared_address(&most[slot]), lane), v, ptx::map_to_cta(bar, lane));
  };
  if (is_helper) {
    const int thread = threadIdx.x - k.cta_groups * 32;
    const bool is_clearing = rank == 0 && thread >= kGroup - 32;
    if (is_clearing && lane == 0) k.a.out.sums[token] = 0;
    chains[thread] = chain_of_global(row, f.k_in, thread);
    __syncthreads();
    if (!is_clearing) return;
    if (lane == 0) ptx::fence_gpu();  // before anything is added
    __syncwarp();
    send(groups, 0);
    return;
  }

  float x[kLaneChannels];
  x[0] = channels.x < 0 ? 0.0f : row[channels.x], x[1] = channels.y < 0 ? 0.0f : row[channels.y];
  x[2] = channels.z < 0 ? 0.0f : row[channels.z], x[3] = channels.w < 0 ? 0.0f : row[channels.w];
  __syncthreads();
  const float inverse = rms_inverse(tree_of_chains(chains, lane), f.k_in, k.a.eps);
#pragma unroll
  for (int i = 0; i < kLaneChannels; ++i) x[i] = (x[i] * inverse) * gain[i];
  if (f.rotate && group >= n8) rotate_across_warp(x, lane, k.hadamard_scale);
  const uint32_t own_most =
      __reduce_max_sync(~0u, max(max(float_bits(x[0]) & 0x7fffffffu, float_bits(x[1]) & 0x7fffffffu),
                                 max(float_bits(x[2]) & 0x7fffffffu, float_bits(x[3]) & 0x7fffffffu)));
  if (has_group) send(group, own_most);
  __syncwarp();
  ptx::mbarrier_wait(bar, 0);

  uint32_t most1 = 0, most2 = 0;
#pragma unroll 4
  for (int i = lane; i < groups; i += 32)
    if (i < n8)
      most1 = max(most1, most[i]);
    else
      most2 = max(most2, most[i]);
  most1 = __reduce_max_sync(~0u, most1), most2 = __reduce_max_sync(~0u, most2);
  if (!has_group) return;
  const bool is_first = group < n8, is_bad = max(most1, most2) >= kNotFinite;
  const float amax1 = float_from_bits(most1), amax2 = float_from_bits(most2);
  const TokenScales scales = is_bad ? TokenScales{0.0f, 1} : scales_of(amax1, amax2, k.scales);
  const Encoding e =
      encoding_of(scales, is_first ? amax1 : amax2, own_most, is_first, !is_first && f.bits2 == 4, k.scales.clip2);
  uint32_t value;
  int sum = encode_word(x, e, is_first || f.bits2 == 8 ? kLimits8 : kLimits4, value);
  *word = value;
  sum = static_cast<int>(__reduce_add_sync(~0u, static_cast<uint32_t>(sum)));
  if (lane != 0) return;
  ptx::reduce_add(reinterpret_cast<int32_t*>(k.a.out.sums + token), is_first ? scales.r * sum : sum);
  if (group == 0) {
    k.a.out.scales[token] = scales.sx;
    k.a.out.region1_factors[token] = scales.sx == 0.0f ? 1 : scales.r;
    if (is_bad && k.a.row_errors != nullptr && k.a.row_errors[token] == 0) k.a.row_errors[token] = k.a.error_tag;
  }
  const size_t index = static_cast<size_t>(token) * groups + group;
  const int multiplier = max(1, static_cast<int>(e.multiplier));
  if (k.a.out.multipliers != nullptr) k.a.out.multipliers[index] = static_cast<uint8_t>(multiplier);
  if (k.a.out.group_sums != nullptr) k.a.out.group_sums[index] = static_cast<int16_t>(sum / multiplier);
}

}  // namespace

void launch_quantize_act_few_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, const QuantizePlan& plan,
                                  cudaStream_t stream) {
  const ActFormat& f = p.format;
  const ResidentArgs k{p, args, scale_constants(f), hadamard_scale(kGroup), plan.cluster, plan.cta_groups, 1, 1, 0};
  const LaunchConfig config{plan.ctas, (plan.cta_groups + kHelperWarps) * 32, 0, stream, plan.cluster, true};
  if (plan.cta_groups <= kMostFewGroups / 2)
    launch_dependent(quantize_act_few_kernel<(kMostFewGroups / 2 + kHelperWarps) * 32, 2>, config, k);
  else
    launch_dependent(quantize_act_few_kernel<(kMostFewGroups + kHelperWarps) * 32, 1>, config, k);
}

}  // namespace comet::cuda
