// SPDX-License-Identifier: Apache-2.0
// quantize_act with the rotated row in registers, for rows whose 16-byte pieces can be copied whole.
//
// Persistent CTAs, or clusters that share a token's groups; kTokens tokens a pass, the rows of the next pass on their
// way in shared memory. 8 lanes share a group (tile/quantize_units.cuh). Order and gain of a permuted or normed row do
// not change from token to token and are read once, into registers. One more warp sums the squares of the pass to come.
#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/layouts_sm90.h"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/exchange.cuh"
#include "kernels/cuda/ptx/launch.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/quantize_act_sm90.h"
#include "kernels/cuda/tile/quantize_cta_sm90.cuh"
#include "kernels/cuda/tile/quantize_loads.cuh"
#include "kernels/cuda/tile/quantize_rows_sm90.cuh"

namespace comet::cuda {
namespace {

static_assert(sizeof(Barriers) - sizeof(Barriers::chains) <= 128 && sizeof(Barriers) <= 1152);

constexpr int kThirdOfShared = 80 * 1024;

// kUnits: groups of a lane, a CTA's warps apart. kPicked: channels come one by one, through order.
template <ActSource kSource, bool kPicked, int kUnits, int kTokens, int kMostChannels, int kThreads, int kCtasPerSm>
__global__ void __launch_bounds__(kThreads, kCtasPerSm)
    quantize_act_resident_kernel(const __grid_constant__ ResidentArgs k) {
  constexpr bool kIsNormed = kSource == ActSource::rms_norm;
  constexpr int kSize = channel_bytes(kSource), kTokenStride = token_stride(kSource, kMostChannels);
  constexpr int kHelpers = helper_warps(kSource);
  constexpr int kItems = kTokens * kUnits;  // what a lane holds 16 channels of
  static_assert(kItems <= 2 && (!kPicked || kUnits == 1) && (!kIsNormed || kItems == 1));
  extern __shared__ __align__(128) char shared[];
  Barriers& s = *reinterpret_cast<Barriers*>(shared);
  const ActFormat& f = k.p.format;
  const int m = k.p.m, n8 = f.num_int8_groups, groups = f.k / kGroup, lane = threadIdx.x % 32, warp = threadIdx.x / 32,
            consumers = blockDim.x / 32 - kHelpers, t = lane % kUnitLanes;
  const SharedLayout at = shared_layout(k, kPicked, kTokens, kTokenStride, consumers);
  const int cluster = k.cluster, rank = blockIdx.x % cluster, step = gridDim.x / cluster;
  const int cta_group = rank * k.cta_groups, cta_end = min(groups, cta_group + k.cta_groups);
  const int first_group = cta_group + warp * kWarpGroups + lane / kUnitLanes;
  const bool is_helper = warp >= consumers;
  const auto group_of = [&](int item) { return first_group + item / kTokens * consumers * kWarpGroups; };
  const int own_group = group_of(lane % kItems);
  char* const rows = shared + at.rows;
  uint2* const all_most = reinterpret_cast<uint2*>(shared + at.most);
  uint32_t* const all_sums = reinterpret_cast<uint32_t*>(shared + at.sums);
  const auto bar = [](uint64_t& b) { return ptx::shared_address(&b); };

  const auto row_of = [&](int token) {
    const size_t row = k.a.row_ids != nullptr ? k.a.row_ids[token] : token;
    return static_cast<const char*>(k.a.x) + row * f.k_in * kSize;
  };
  const int stages = kIsNormed ? k.stages : kStages;
  // The part of the rows of a pass that this CTA reads; of picked rows all of it, long ones in parts.
  const int in_channels = kPicked ? f.k_in : max(0, min(f.k_in, cta_end * kGroup) - cta_group * kGroup);
  const auto copy_rows = [&](int pass, int stage) {
    if constexpr (kIsNormed) {
      const char* from = row_of(pass);
      const uint32_t to = ptx::shared_address(rows + stage * at.row_bytes);
#pragma unroll 1
      for (int part = 0; part < k.parts; ++part) {
        const int first = part * k.part_channels, n = max(0, min(k.part_channels, f.k_in - first));
        ptx::mbarrier_arrive_expect(bar(s.full[stage][part]), n * kSize);
        if (n > 0) ptx::bulk_copy(to + first * kSize, from + first * kSize, n * kSize, bar(s.full[stage][part]));
      }
    } else {
      constexpr int kPieces = kSource == ActSource::silu_mul ? 2 : 1;
      const uint32_t bytes = in_channels * (kSize / kPieces), b = bar(s.full[stage][0]);
      const int tokens = kTokens == 1 ? 1 : min(kTokens, m - pass * kTokens);
      ptx::mbarrier_arrive_expect(b, bytes * kPieces * tokens);
#pragma unroll
      for (int i = 0; i < kTokens; ++i) {
        if (i >= tokens) return;
        const char* from = row_of(pass * kTokens + i) + (kPicked ? 0 : cta_group * kGroup * (kSize / kPieces));
        const uint32_t to = ptx::shared_address(rows + i * kTokenStride + stage * at.row_bytes);
        ptx::bulk_copy(to, from, bytes, b);
        if constexpr (kPieces == 2) ptx::bulk_copy(to + at.row_bytes / 2, from + f.k_in * 2, bytes, b);
      }
    }
  };
  const auto wait_for_rows = [&](int stage, int phase) {
    ptx::mbarrier_wait(bar(s.full[stage][0]), phase);
    if constexpr (kIsNormed)
#pragma unroll 1
      for (int part = 1; part < k.parts; ++part) ptx::mbarrier_wait(bar(s.full[stage][part]), phase);
  };

  const int first_pass = blockIdx.x / cluster, valid_passes = (m + kTokens - 1) / kTokens;
  // CTAs of long normed rows leave no room beside them: a GEMM's that came at once would crowd on the other SMs.
  const bool is_next_late = kIsNormed && f.k_in > kMostTeamChannels;
  if (!is_next_late) ptx::allow_next_kernel();
  if (threadIdx.x == blockDim.x - 32) {  // of a helper, where there is one: the others read order and gain meanwhile
    for (int i = 0; i < kStages; ++i) {
      for (int part = 0; part < (kIsNormed ? kMostParts : 1); ++part) ptx::mbarrier_init(bar(s.full[i][part]), 1);
      ptx::mbarrier_init(bar(s.normed[i]), 1);
      ptx::mbarrier_init(bar(s.exchanged[i]), 1);
      ptx::mbarrier_init(bar(s.summed[i]), 1);
    }
    ptx::fence_mbarrier_init();
  }
  if constexpr (kPicked) {
    if (threadIdx.x < stages * kTokens)
      *reinterpret_cast<uint4*>(rows + threadIdx.x / stages * kTokenStride + (threadIdx.x % stages + 1) * at.row_bytes -
                                16) = {0, 0, 0, 0};
  } else {  // channels behind the row's end, and a whole warp's groups behind the CTA's: no copy writes there
    constexpr int kHalf = is_half(kSource) ? 2 : 4;
    for (int part = 0; part < at.row_bytes * stages; part += k.cta_groups * kGroup * kHalf)
      for (int i = in_channels + threadIdx.x; i < k.cta_groups * kGroup; i += blockDim.x)
        for (int j = 0; j < kHalf; j += 2) *reinterpret_cast<uint16_t*>(rows + part + i * kHalf + j) = 0;
  }
  uint32_t order[kPicked ? kUnit : 1];
  float gain[kIsNormed ? kUnit : 1];
  if (kPicked && !is_helper && first_pass < valid_passes) {
    const bool is_before = f.rotate && first_group >= n8, is_mine = first_group < cta_end;
    int channels[kUnit];
#pragma unroll
    for (int i = 0; i < kUnit; i += 4) {
      // Bit 2 turned in half of the groups: an order that changes nothing still meets 8 banks and not 4.
      const int first = (is_mine ? first_group : 0) * kGroup +
                        (is_before ? channel_before(i ^ (lane >> 1 & 4), t) : channel_after(i, t));
      const int4 p = k.a.perm != nullptr ? *reinterpret_cast<const int4*>(k.a.perm + first)
                                         : int4{first, first + 1, first + 2, first + 3};
      channels[i] = p.x, channels[i + 1] = p.y, channels[i + 2] = p.z, channels[i + 3] = p.w;
    }
    const float* const gains = reinterpret_cast<const float*>(shared + at.gain);
    if constexpr (kIsNormed) {  // in flight with the order
      float* const to = reinterpret_cast<float*>(shared + at.gain);
      if (k.a.gain_dtype == DType::f32)
        stage_gains<float>(k.a.gain, f.k_in, consumers * 32, to);
      else if (k.a.gain_dtype == DType::bf16)
        stage_gains<bf16>(k.a.gain, f.k_in, consumers * 32, to);
      else
        stage_gains<f16>(k.a.gain, f.k_in, consumers * 32, to);
      ptx::fence_async_proxy();  // rows come here next
      ptx::named_barrier_sync(kConsumersBarrier, consumers * 32);
    }
#pragma unroll
    for (int i = 0; i < kUnit; ++i) {
      const bool is_padding = !is_mine || channels[i] < 0 || channels[i] >= f.k_in;
      order[i] = ptx::shared_address(rows) + (is_padding ? f.k_in : channels[i]) * kSize;
      if constexpr (kIsNormed) gain[i] = is_padding ? 0.0f : gains[channels[i]];
    }
  }
  const Rotation rotation(lane, k.hadamard_scale, kPicked && (lane & 8) != 0);
  __syncthreads();
  if (cluster > 1) ptx::cluster_meet();

  ptx::wait_for_previous_kernel();
  if (is_next_late) ptx::allow_next_kernel();
  if (threadIdx.x == 0)
    for (int i = 0; i < stages; ++i)
      if (first_pass + i * step < valid_passes) copy_rows(first_pass + i * step, i);

  if (kIsNormed && is_helper) {  // a pass ahead of the others, whose barrier frees the rows that it reads
    const int thread = threadIdx.x - consumers * 32;
    int count = 0;
    for (int pass = first_pass; pass < valid_passes; pass += step, ++count) {
      const int stage = count % kStages, phase = count / kStages % 2;
      float chain = 0.0f;
      if (k.parts > 1) {
        const float* row = reinterpret_cast<const float*>(rows + stage * at.row_bytes);
#pragma unroll 1
        for (int part = 0; part < k.parts; ++part) {
          const int first = part * k.part_channels;
          ptx::mbarrier_wait(bar(s.full[stage][part]), phase);
          chain = chain_of_shared(chain, row + first, min(k.part_channels, f.k_in - first), thread);
        }
      } else {
        chain = chain_of_global(reinterpret_cast<const float*>(row_of(pass)), f.k_in, thread);
      }
      const float sum = sum_of_chains(chain, thread, s.chains[stage], kHelpersBarrier);
      if (thread >= 32) continue;
      if (count >= kStages && stage == 0) ptx::named_barrier_sync(kReadBarrier, consumers * 32 + 32);
      if (count >= kStages && stage == 1) ptx::named_barrier_sync(kReadBarrier + 1, consumers * 32 + 32);
      if (lane == 0) {
        s.inverse[stage] = rms_inverse(sum, f.k_in, k.a.eps);
        ptx::mbarrier_arrive(bar(s.normed[stage]));
      }
      __syncwarp();
    }
    return;
  }

  const bool is_fragments = k.a.out.layout == ActLayout::fragments_sm90;
  const auto group_offset = [&](int group) { return static_cast<uint32_t>(group * padded_tokens(m)) * kGroup; };
  const auto finish_sums = [&](int pass, int parity, int phase) {  // by warp 0 of rank 0
    if (cluster > 1) ptx::mbarrier_wait(bar(s.summed[parity]), phase);
#pragma unroll
    for (int i = 0; i < kTokens; ++i) {
      uint32_t sum = 0;
#pragma unroll 1
      for (int slot = lane; slot < at.slots; slot += 32) sum += all_sums[(parity * kTokens + i) * at.slots + slot];
      sum = __reduce_add_sync(~0u, sum);
      if (lane == 0) k.a.out.sums[pass * kTokens + i] = sum;
    }
  };
  int count = 0, pass = first_pass;
  for (; pass < valid_passes; pass += step, ++count) {
    const int parity = count % 2, phase = count / 2 % 2, token0 = pass * kTokens, slot = rank * consumers + warp;
    const uint32_t stage_bytes = parity * at.row_bytes;
    uint2* const most_slots = all_most + parity * kTokens * at.slots;
    uint32_t* const sum_slots = all_sums + parity * kTokens * at.slots;
    wait_for_rows(parity, phase);
    float x[kItems][kUnit];
    const auto pick = [&](int token, float(&out)[kUnit]) {
#pragma unroll
      for (int i = 0; i < kUnit; ++i) {
        const uint32_t from = order[i] + stage_bytes + token * kTokenStride;
        out[i] = is_half(kSource) ? bf16_low(ptx::load_shared_u16(from)) : ptx::load_shared_float(from);
      }
    };
    float inverse = 0.0f;
    if constexpr (kIsNormed) {
      pick(0, x[0]);  // while the sum is on its way
      ptx::mbarrier_wait(bar(s.normed[parity]), phase);
      inverse = s.inverse[parity];
      const bool is_refilled = pass + kStages * step < valid_passes;
      if (is_refilled && parity == 0) ptx::named_barrier_arrive(kReadBarrier, consumers * 32 + 32);
      if (is_refilled && parity == 1) ptx::named_barrier_arrive(kReadBarrier + 1, consumers * 32 + 32);
    }
    const auto load = [&](int token, int group, bool is_after, float(&out)[kUnit]) {
      if constexpr (kPicked && !kIsNormed) pick(token, out);
      if constexpr (kIsNormed) {
#pragma unroll
        for (int i = 0; i < kUnit; ++i) out[i] = (out[i] * inverse) * gain[i];
      } else if constexpr (!kPicked) {
        const int local = (group - cta_group) * kGroup;
        const char* row = rows + stage_bytes;
        if constexpr (kSource == ActSource::silu_mul)
          load_silu(row + local * 2, row + at.row_bytes / 2 + local * 2, t, is_after, out);
        else if constexpr (kSource == ActSource::bf16)
          load_bf16(row + local * 2, t, is_after, out);
        else
          load_f32(row + local * 4, t, is_after, out);
      }
    };

    uint32_t item_most[kItems];
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const int group = group_of(i);
      const bool is_rotated = f.rotate && group >= n8;
      load(i % kTokens, group, !is_rotated, x[i]);
      rotate_where(is_rotated, x[i], rotation);
      item_most[i] = largest_bits(x[i]);
    }
    const uint32_t own_most = group_most<kItems>(item_most, lane);
    const bool is_first = own_group < n8, is_4bit = !is_first && f.bits2 == 4;
    uint2 total[kTokens];
#pragma unroll
    for (int i = 0; i < kTokens; ++i) {
      const bool is_own = lane % kTokens == i;
      total[i] = {__reduce_max_sync(~0u, is_own && is_first ? own_most : 0),
                  __reduce_max_sync(~0u, is_own && !is_first ? own_most : 0)};
    }
    if (cluster == 1) {
      if (lane == 0)
#pragma unroll
        for (int i = 0; i < kTokens; ++i) most_slots[i * at.slots + slot] = total[i];
    } else {
      if (threadIdx.x == 0) {
        ptx::mbarrier_arrive_expect(bar(s.exchanged[parity]), at.slots * kTokens * 8);
        if (rank == 0) ptx::mbarrier_arrive_expect(bar(s.summed[parity]), at.slots * kTokens * 4);
      }
      if (lane < cluster)
#pragma unroll
        for (int i = 0; i < kTokens; ++i)
          ptx::store_async_v2(ptx::map_to_cta(ptx::shared_address(&most_slots[i * at.slots + slot]), lane), total[i].x,
                              total[i].y, ptx::map_to_cta(bar(s.exchanged[parity]), lane));
    }
    ptx::named_barrier_sync(kConsumersBarrier, consumers * 32);
    // A row is read when its maxima are out: those of this CTA now, those of the others when they have come.
    const bool is_refilling = threadIdx.x == 0 && pass + kStages * step < valid_passes;
    if (is_refilling) copy_rows(pass + kStages * step, parity);
    if (cluster > 1) ptx::mbarrier_wait(bar(s.exchanged[parity]), phase);
    if (warp == 0 && rank == 0 && count > 0) finish_sums(pass - step, 1 - parity, (count - 1) / 2 % 2);

    uint32_t most1 = 0, most2 = 0;  // of the token lane % kTokens
#pragma unroll
    for (int i = 0; i < kTokens; ++i) {
      uint2 v{0, 0};
#pragma unroll 1
      for (int j = lane; j < at.slots; j += 32) {
        const uint2 w = most_slots[i * at.slots + j];
        v = {max(v.x, w.x), max(v.y, w.y)};
      }
      v = {__reduce_max_sync(~0u, v.x), __reduce_max_sync(~0u, v.y)};
      if (lane % kTokens == i) most1 = v.x, most2 = v.y;
    }
    const bool is_bad = max(most1, most2) >= kNotFinite || token0 + lane % kTokens >= m;
    const float amax1 = float_from_bits(most1), amax2 = float_from_bits(most2);
    const TokenScales scales = is_bad ? TokenScales{0.0f, 1} : scales_of(amax1, amax2, k.scales);
    uint32_t osum[kTokens];
#pragma unroll
    for (int i = 0; i < kTokens; ++i) osum[i] = 0;
    // Of the item lane % kItems; then each lane gets its group's of every item.
    const Encoding own = encoding_of(scales, is_first ? amax1 : amax2, own_most, is_first, is_4bit, k.scales.clip2);
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const int from = (lane & ~(kItems - 1)) + i, token = token0 + i % kTokens, group = group_of(i);
      const Encoding e =
          kItems == 1 ? own
                      : Encoding{__shfl_sync(~0u, own.inverse_step, from), __shfl_sync(~0u, own.multiplier, from)};
      uint32_t words[4];
      const bool is_wide = group < n8 || f.bits2 == 8;
      int sum = encode(x[i], e, is_wide ? kLimits8 : kLimits4, words);
      store_words(k.a.out.values, group_offset(group), is_fragments, token, t, group < cta_end, words);
      if (k.a.out.multipliers != nullptr || k.a.out.group_sums != nullptr)
        store_group(k, token, group, groups, t, group < cta_end && token < m, e.multiplier, sum);
      const int r = kTokens == 1 ? scales.r : __shfl_sync(~0u, scales.r, from);
      osum[i % kTokens] += static_cast<uint32_t>(group < n8 ? r * sum : sum);
    }
#pragma unroll
    for (int i = 0; i < kTokens; ++i) {
      osum[i] = __reduce_add_sync(~0u, osum[i]);
      if (lane == 0) {
        uint32_t* to = &sum_slots[i * at.slots + slot];
        if (cluster == 1)
          *to = osum[i];
        else
          ptx::store_async_u32(ptx::map_to_cta(ptx::shared_address(to), 0), osum[i],
                               ptx::map_to_cta(bar(s.summed[parity]), 0));
      }
    }
    if (warp == 0 && rank == 0 && lane < kTokens) {
      const int token = token0 + lane;
      k.a.out.scales[token] = scales.sx;
      k.a.out.region1_factors[token] = scales.sx == 0.0f ? 1 : scales.r;
      if (is_bad && token < m && k.a.row_errors != nullptr && k.a.row_errors[token] == 0)
        k.a.row_errors[token] = k.a.error_tag;
    }
  }
  ptx::named_barrier_sync(kConsumersBarrier, consumers * 32);
  if (warp == 0 && rank == 0 && count > 0) finish_sums(pass - step, (count - 1) % 2, (count - 1) / 2 % 2);
  const uint32_t zeros[4] = {0, 0, 0, 0};
  for (; pass < padded_tokens(m) / kTokens; pass += step)
#pragma unroll
    for (int i = 0; i < kTokens; ++i) {
      const int token = pass * kTokens + i;
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        const int group = first_group + u * consumers * kWarpGroups;
        store_words(k.a.out.values, group_offset(group), is_fragments, token, t, group < cta_end, zeros);
      }
      if (threadIdx.x == 0 && rank == 0)
        k.a.out.scales[token] = 0.0f, k.a.out.region1_factors[token] = 1, k.a.out.sums[token] = 0;
    }
}

// Clusters of this launch that the GPU holds at once; asked once for each shape of a launch.
template <class Kernel>
int resident_clusters(Kernel* kernel, const LaunchConfig& config) {
  static std::mutex mutex;
  static std::map<std::tuple<Kernel*, int, int, int>, int> known;
  const std::lock_guard lock(mutex);
  const auto [entry, is_new] = known.try_emplace({kernel, config.threads, config.shared_bytes, config.cluster}, 0);
  if (is_new) entry->second = std::max(1, most_resident_clusters(kernel, config));
  return entry->second;
}

template <ActSource kSource, bool kPicked, int kUnits, int kTokens, int kMostChannels, int kThreads, int kCtasPerSm>
void launch(ResidentArgs k, const QuantizePlan& plan, cudaStream_t stream) {
  constexpr auto kernel =
      quantize_act_resident_kernel<kSource, kPicked, kUnits, kTokens, kMostChannels, kThreads, kCtasPerSm>;
  static const bool allowed = (allow_shared_bytes(kernel, kMostRowBytes), true);
  static_cast<void>(allowed);
  k.cluster = plan.cluster, k.cta_groups = plan.cta_groups;
  constexpr bool kIsNormed = kSource == ActSource::rms_norm;
  k.stages = kIsNormed && plan.ctas / plan.cluster * kTokens >= k.p.m ? 1 : kStages;
  k.parts = plan.parts, k.part_channels = round_up((k.p.format.k_in + plan.parts - 1) / plan.parts, kGroup);
  const int warps = (plan.cta_groups + kWarpGroups * kUnits - 1) / (kWarpGroups * kUnits);
  const int threads = (warps + helper_warps(kSource)) * 32;
  const int bytes = shared_layout(k, kPicked, kTokens, token_stride(kSource, kMostChannels), warps).bytes;
  // A grid of no more CTAs than SMs asks for so much that an SM takes two: one of this kernel and one of the next.
  const int asked = plan.ctas <= plan.sms ? std::max(bytes, kThirdOfShared) : bytes;
  LaunchConfig config{plan.ctas, threads, asked, stream, plan.cluster, true};
  // Clusters do not fill every group of SMs. One more than run at once would run behind all others.
  if (kIsNormed && k.stages > 1 && plan.cluster > 2)
    config.ctas = std::min(config.ctas, resident_clusters(kernel, config) * plan.cluster);
  launch_dependent(kernel, config, k);
}

}  // namespace

void launch_quantize_act_resident_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args,
                                       const QuantizePlan& plan, cudaStream_t stream) {
  const ActFormat& f = p.format;
  const ResidentArgs k{p, args, scale_constants(f), hadamard_scale(kGroup), 1, 0, kStages, 1, 0};
  const bool is_two = plan.tokens == 2, is_wide = plan.units == 2;
  switch (p.source) {
    case ActSource::rms_norm: return launch<ActSource::rms_norm, true, 1, 1, 0, 640, 1>(k, plan, stream);
    case ActSource::silu_mul:
      return is_wide ? launch<ActSource::silu_mul, false, 2, 1, 0, 448, 2>(k, plan, stream)
                     : launch<ActSource::silu_mul, false, 1, 1, 0, 512, 2>(k, plan, stream);
    case ActSource::bf16:
      if (args.perm == nullptr) return launch<ActSource::bf16, false, 1, 1, 0, 512, 2>(k, plan, stream);
      return is_two ? launch<ActSource::bf16, true, 1, 2, 8192, 512, 1>(k, plan, stream)
                    : launch<ActSource::bf16, true, 1, 1, 0, 512, 1>(k, plan, stream);
    case ActSource::f32:
      if (args.perm == nullptr) return launch<ActSource::f32, false, 1, 1, 0, 512, 2>(k, plan, stream);
      return launch<ActSource::f32, true, 1, 1, 0, 512, 1>(k, plan, stream);
  }
}

}  // namespace comet::cuda
