// SPDX-License-Identifier: Apache-2.0
// quantize_act of many normed rows with gains of bf16 or f16: teams of warps in a CTA, each with a row of its own.
//
// What is picked can come from anywhere in a row, so a CTA takes all of it and copies it once. A lane has 16 channels
// of two groups (8 lanes share a group, tile/quantize_units.cuh). Shared memory holds a row of each team, and order and
// gain as lanes read them, two bytes each, for all. The next row is on its way from when this one is picked; a team's
// helpers sum its squares as its parts come.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/layouts_sm90.h"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/exchange.cuh"
#include "kernels/cuda/ptx/float.cuh"
#include "kernels/cuda/ptx/launch.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/quantize_act_sm90.h"
#include "kernels/cuda/tile/quantize_cta_sm90.cuh"
#include "kernels/cuda/tile/quantize_rows_sm90.cuh"

namespace comet::cuda {
namespace {

constexpr int kUnits = 2;  // groups of a lane
constexpr int kPartChannels = kMostWideChannels / kMostParts;
constexpr int kMostWarps = kMostWideChannels / kGroup / kWarpGroups / kUnits;
constexpr int kMaximaBuffers = 3;  // one is read, one is written, one is cleared

struct WideTeam {
  uint64_t full[kMostParts], normed[2], picked;
  float inverse[2];
  alignas(8) uint32_t most[kMaximaBuffers][2];  // maxima of the regions
  uint32_t sums[2];                             // of codes
  uint32_t seen[kMostWarps];                    // for wait_for_loads
  float chains[2][kGroup];
};

template <int kTeams>
struct WideShared {
  static constexpr int kWarps = most_wide_channels(kTeams) / kGroup / kWarpGroups / kUnits;  // of a team, with groups
  static constexpr int kHelpers = kTeams == 1 ? 4 : 2;
  static constexpr int kRowBytes = most_wide_channels(kTeams) * 4 + 16;  // zeros at the end: padding comes from there
  static constexpr int kUnitBytes = kWarps * 32 * 32;  // of order, or gain: 32 of a lane, 16 at a time
  alignas(128) WideTeam team[kTeams];
  alignas(16) char rows[kTeams][kRowBytes];
  alignas(16) char gain[kUnits * kUnitBytes], order[kUnits * kUnitBytes];  // two channels a word
};
static_assert(sizeof(WideShared<1>) <= kMostRowBytes && kMostWideChannels < 1 << 15);

// Two channels, of which one shift makes the byte offset of the second.
__device__ __forceinline__ uint32_t pair_of(int c0, int c1) {
  return static_cast<uint32_t>(c0) | static_cast<uint32_t>(c1) << 17;
}

__device__ __forceinline__ float f16_low(uint32_t pair) { return ptx::float_of_f16(static_cast<uint16_t>(pair)); }
__device__ __forceinline__ float f16_high(uint32_t pair) {
  return ptx::float_of_f16(static_cast<uint16_t>(pair >> 16));
}

template <class Low, class High>
__device__ __forceinline__ void scale_by_gains(uint32_t from, float inverse, const Low& low, const High& high,
                                               float (&x)[kUnit]) {
#pragma unroll
  for (int i = 0; i < kUnit; i += 8) {
    const uint4 g = ptx::load_shared_v4(from + i * 64);
    const uint32_t pairs[4] = {g.x, g.y, g.z, g.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      x[i + 2 * j] = (x[i + 2 * j] * inverse) * low(pairs[j]);
      x[i + 2 * j + 1] = (x[i + 2 * j + 1] * inverse) * high(pairs[j]);
    }
  }
}

// When this warp's store to `to` is made, all its loads of x have come back. A copy overtakes loads that have only been
// asked for, and an arrival at a barrier does not wait for them.
__device__ __forceinline__ void wait_for_loads(const float (&x)[kUnits][kUnit], uint32_t to, int lane) {
  uint32_t bits = 0;
#pragma unroll
  for (int u = 0; u < kUnits; ++u)
#pragma unroll
    for (int i = 0; i < kUnit; ++i) bits |= float_bits(x[u][i]);
  bits = __reduce_max_sync(~0u, bits);
  if (lane == 0) ptx::store_shared_u32(to, bits);
}

template <int kTeams, int kCtaThreads>
__global__ void __launch_bounds__(kCtaThreads, 1) quantize_act_wide_kernel(const __grid_constant__ ResidentArgs k) {
  using AllShared = WideShared<kTeams>;
  constexpr int kWarps = AllShared::kWarps, kHelpers = AllShared::kHelpers, kTeamWarps = kWarps + kHelpers,
                kUnitBytes = AllShared::kUnitBytes, kAllWithGroups = kTeams * kWarps * 32, kBarriersEach = 2,
                kStagedBarrier = 0, kStagedThreads = kAllWithGroups + kTeams * 32;  // and a team's first helper
  static_assert(kCtaThreads == kTeams * kTeamWarps * 32);
  extern __shared__ __align__(128) char shared[];
  AllShared& all = *reinterpret_cast<AllShared*>(shared);
  const ActFormat& f = k.p.format;
  const int m = k.p.m, n8 = f.num_int8_groups, groups = f.k / kGroup, lane = threadIdx.x % 32, t = lane % kUnitLanes;
  const int cta_warp = __shfl_sync(~0u, threadIdx.x / 32, 0);  // said to be the same in all lanes
  const int team = kTeams == 1 ? 0 : cta_warp / kTeamWarps, warp = cta_warp - team * kTeamWarps;
  WideTeam& s = all.team[team];
  const auto bar = [](uint64_t& b) { return ptx::shared_address(&b); };
  const int consumers_barrier = kConsumersBarrier + team * kBarriersEach,
            helpers_barrier = kHelpersBarrier + team * kBarriersEach;
  const int busy = (groups + kWarpGroups * kUnits - 1) / (kWarpGroups * kUnits), consumers = busy * 32;
  const uint32_t row = ptx::shared_address(all.rows[team]);
  const int first_token = blockIdx.x + team * gridDim.x, step = gridDim.x * kTeams;

  if (warp >= kWarps) {
    constexpr int kChains = kGroup / (kHelpers * 32);  // of a thread
    const int thread = (warp - kWarps) * 32 + lane;
    const bool is_lead = warp == kWarps;
    if (is_lead) {
      if (lane == 0) {
        for (uint64_t& b : s.full) ptx::mbarrier_init(bar(b), 1);
        for (uint64_t& b : s.normed) ptx::mbarrier_init(bar(b), 1);
        ptx::mbarrier_init(bar(s.picked), consumers);
        ptx::fence_mbarrier_init();
      }
      ptx::named_barrier_arrive(kStagedBarrier, kStagedThreads);
    }
    ptx::named_barrier_sync(helpers_barrier, kHelpers * 32);
    ptx::wait_for_previous_kernel();
    ptx::allow_next_kernel();
    int count = 0;
    for (int token = first_token; token < m; token += step, ++count) {
      if (is_lead && lane == 0) {
        const size_t row_id = k.a.row_ids != nullptr ? k.a.row_ids[token] : token;
        const float* const from = static_cast<const float*>(k.a.x) + row_id * f.k_in;
#pragma unroll 1
        for (int part = 0; part < k.parts; ++part) {
          const int first = part * kPartChannels, bytes = min(kPartChannels, f.k_in - first) * 4;
          ptx::mbarrier_arrive_expect(bar(s.full[part]), bytes);
          ptx::bulk_copy_once(row + first * 4, from + first, bytes, bar(s.full[part]), ptx::read_once());
        }
      }
      float chains[kChains] = {};
#pragma unroll 1
      for (int part = 0; part < k.parts; ++part) {
        const int end = min((part + 1) * kPartChannels, f.k_in);
        ptx::mbarrier_wait(bar(s.full[part]), count % 2);
#pragma unroll 14
        for (int c = part * kPartChannels + thread * kChains; c < end; c += kGroup) {
          float v[kChains];
          if constexpr (kChains == 2) {
            const uint2 both = ptx::load_shared_v2(row + c * 4);
            v[0] = float_from_bits(both.x), v[1] = float_from_bits(both.y);
          } else {
            v[0] = ptx::load_shared_float(row + c * 4);
          }
#pragma unroll
          for (int i = 0; i < kChains; ++i) chains[i] = fmaf(v[i], v[i], chains[i]);
        }
      }
#pragma unroll
      for (int i = 0; i < kChains; ++i) s.chains[count % 2][thread * kChains + i] = chains[i];
      ptx::named_barrier_sync(helpers_barrier, kHelpers * 32);
      if (!is_lead) continue;
      const float inverse = rms_inverse(tree_of_chains(s.chains[count % 2], lane), f.k_in, k.a.eps);
      if (lane == 0) {
        s.inverse[count % 2] = inverse;
        ptx::mbarrier_arrive(bar(s.normed[count % 2]));
      }
      __syncwarp();
      if (token + step < m) ptx::mbarrier_wait(bar(s.picked), count % 2);
    }
    return;
  }

  const int thread = warp * 32 + lane, group0 = warp * kWarpGroups + lane / kUnitLanes;
  const auto group_of = [&](int unit) { return group0 + unit * busy * kWarpGroups; };
  if (thread < 4) *reinterpret_cast<uint32_t*>(all.rows[team] + f.k_in * 4 + thread * 4) = 0;
  if (thread < kMaximaBuffers * 2) s.most[0][thread] = 0;
  if (thread < 2) s.sums[thread] = 0;
  const uint32_t own_order = ptx::shared_address(all.order) + (warp * 64 + lane) * 16,
                 own_gain = ptx::shared_address(all.gain) + (warp * 64 + lane) * 16;  // 512 bytes to the next 16
  {
    const uint16_t* const gain = static_cast<const uint16_t*>(k.a.gain);
    uint16_t* const staged = reinterpret_cast<uint16_t*>(all.order);
    const int stager = team * kWarps * 32 + thread;
    if (reinterpret_cast<size_t>(gain) % 16 == 0) {
      for (int i = stager * 8; i < f.k_in; i += kAllWithGroups * 8)
        *reinterpret_cast<uint4*>(staged + i) = *reinterpret_cast<const uint4*>(gain + i);
    } else {
      for (int i = stager; i < f.k_in; i += kAllWithGroups) staged[i] = gain[i];
    }
    // A team makes the order and gains of every kTeams-th unit, for all.
    uint32_t order[kUnits][kUnit / 2];
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      if (u % kTeams != team) continue;
      const int group = group_of(u);
      const bool is_mine = warp < busy && group < groups, is_rotated = f.rotate && group >= n8;
#pragma unroll
      for (int i = 0; i < kUnit; i += 4) {
        // Bit 2 turned in half of the groups: an order that changes nothing still meets 8 banks and not 4.
        const int first = (is_mine ? group : 0) * kGroup +
                          (is_rotated ? channel_before(i ^ (lane >> 1 & 4), t) : channel_after(i, t));
        int4 p{first, first + 1, first + 2, first + 3};
        if (k.a.perm != nullptr) p = *reinterpret_cast<const int4*>(k.a.perm + first);
        for (int* c : {&p.x, &p.y, &p.z, &p.w})
          if (!is_mine || *c < 0 || *c >= f.k_in) *c = f.k_in;
        order[u][i / 2] = pair_of(p.x, p.y), order[u][i / 2 + 1] = pair_of(p.z, p.w);
      }
    }
    ptx::named_barrier_sync(kStagedBarrier, kStagedThreads);
    const auto gain_of = [&](uint32_t channel) -> uint32_t {
      return channel < static_cast<uint32_t>(f.k_in) ? staged[channel] : 0;
    };
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      if (u % kTeams != team) continue;
#pragma unroll
      for (int i = 0; i < kUnit / 2; i += 4) {
        uint32_t w[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) w[j] = gain_of(order[u][i + j] & 0x7fffu) | gain_of(order[u][i + j] >> 17) << 16;
        ptx::store_shared_v4(own_gain + u * kUnitBytes + i * 128, {w[0], w[1], w[2], w[3]});
      }
    }
    ptx::named_barrier_sync(kConsumersBarrier, kAllWithGroups);
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      if (u % kTeams != team) continue;
#pragma unroll
      for (int i = 0; i < kUnit / 2; i += 4)
        ptx::store_shared_v4(own_order + u * kUnitBytes + i * 128,
                             {order[u][i], order[u][i + 1], order[u][i + 2], order[u][i + 3]});
    }
    if (kTeams > 1) ptx::named_barrier_sync(kConsumersBarrier, kAllWithGroups);
  }
  const Rotation rotation(lane, k.hadamard_scale, (lane & 8) != 0);
  ptx::wait_for_previous_kernel();
  ptx::allow_next_kernel();
  if (warp >= busy) return;

  const uint32_t own_values = static_cast<uint32_t>(group0 * padded_tokens(m)) * kGroup,
                 unit_values = static_cast<uint32_t>(busy * kWarpGroups * padded_tokens(m)) * kGroup;
  // Of the unit lane % 2, as is what follows.
  const bool is_own_first = group_of(lane % kUnits) < n8, is_own_4bit = !is_own_first && f.bits2 == 4;
  const bool is_bf16 = k.a.gain_dtype == DType::bf16;
  const bool wants_r = warp * kWarpGroups < n8 || warp == 0;  // the warp: warp 0 writes it
  const auto finish_sum = [&](int token, int parity) {
    if (thread != 0) return;
    k.a.out.sums[token] = s.sums[parity];
    s.sums[parity] = 0;
  };
  int count = 0, token = first_token, buffer = 0;
  for (; token < m; token += step, ++count) {
#pragma unroll 1
    for (int part = 0; part < k.parts; ++part) ptx::mbarrier_wait(bar(s.full[part]), count % 2);
    float x[kUnits][kUnit];
#pragma unroll
    for (int u = 0; u < kUnits; ++u)
#pragma unroll
      for (int i = 0; i < kUnit; i += 8) {
        const uint4 o = ptx::load_shared_v4(own_order + u * kUnitBytes + i * 64);
        const uint32_t pairs[4] = {o.x, o.y, o.z, o.w};
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          x[u][i + 2 * j] = ptx::load_shared_float(row + (pairs[j] & 0x7fffu) * 4);
          x[u][i + 2 * j + 1] = ptx::load_shared_float(row + (pairs[j] >> 15));
        }
      }
    if (token + step < m) {
      wait_for_loads(x, ptx::shared_address(&s.seen[warp]), lane);
      ptx::mbarrier_arrive(bar(s.picked));
    }
    ptx::mbarrier_wait(bar(s.normed[count % 2]), count / 2 % 2);
    const float inverse = s.inverse[count % 2];
    uint32_t unit_most[kUnits];
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      if (is_bf16)
        scale_by_gains(own_gain + u * kUnitBytes, inverse, bf16_low, bf16_high, x[u]);
      else
        scale_by_gains(own_gain + u * kUnitBytes, inverse, f16_low, f16_high, x[u]);
      rotate_where(f.rotate && group_of(u) >= n8, x[u], rotation);
      unit_most[u] = largest_bits(x[u]);
    }
    const uint32_t own_most = group_most<kUnits>(unit_most, lane);
    if (t < kUnits) ptx::reduce_max_shared(ptx::shared_address(&s.most[buffer][is_own_first ? 0 : 1]), own_most);
    ptx::named_barrier_sync(consumers_barrier, consumers);
    const uint2 most = ptx::load_shared_v2(ptx::shared_address(s.most[buffer]));
    buffer = buffer == kMaximaBuffers - 1 ? 0 : buffer + 1;
    if (warp == busy - 1 && lane < 2)  // of the pass after the next, read before the barrier
      s.most[buffer == kMaximaBuffers - 1 ? 0 : buffer + 1][lane] = 0;
    if (count > 0) finish_sum(token - step, (count - 1) % 2);

    const bool is_bad = max(most.x, most.y) >= kNotFinite;
    const float amax1 = float_from_bits(most.x), amax2 = float_from_bits(most.y);
    const TokenScales scales = is_bad ? TokenScales{0.0f, 1} : scales_of(amax1, amax2, k.scales, wants_r);
    const Encoding own =
        encoding_of(scales, is_own_first ? amax1 : amax2, own_most, is_own_first, is_own_4bit, k.scales.clip2);
    uint32_t osum = 0;
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      const int from = (lane & ~1) + u, group = group_of(u);
      const Encoding e{__shfl_sync(~0u, own.inverse_step, from), __shfl_sync(~0u, own.multiplier, from)};
      const bool is_first = group < n8, is_mine = group < groups;
      uint32_t words[4];
      const int sum = encode(x[u], e, is_first || f.bits2 == 8 ? kLimits8 : kLimits4, words);
      store_words(k.a.out.values, own_values + u * unit_values, false, token, t, is_mine, words);
      if (k.a.out.multipliers != nullptr || k.a.out.group_sums != nullptr)
        store_group(k, token, group, groups, t, is_mine, e.multiplier, sum);
      osum += static_cast<uint32_t>(is_first ? scales.r * sum : sum);
    }
    osum = __reduce_add_sync(~0u, osum);
    if (lane == 0) ptx::reduce_add_shared(ptx::shared_address(&s.sums[count % 2]), osum);
    if (thread == 0) {
      k.a.out.scales[token] = scales.sx;
      k.a.out.region1_factors[token] = scales.sx == 0.0f ? 1 : scales.r;
      if (is_bad && k.a.row_errors != nullptr && k.a.row_errors[token] == 0) k.a.row_errors[token] = k.a.error_tag;
    }
  }
  ptx::named_barrier_sync(consumers_barrier, consumers);
  if (count > 0) finish_sum(token - step, (count - 1) % 2);
  const uint32_t zeros[4] = {0, 0, 0, 0};
  for (; token < padded_tokens(m); token += step) {
#pragma unroll
    for (int u = 0; u < kUnits; ++u)
      store_words(k.a.out.values, own_values + u * unit_values, false, token, t, group_of(u) < groups, zeros);
    if (thread == 0) k.a.out.scales[token] = 0.0f, k.a.out.region1_factors[token] = 1, k.a.out.sums[token] = 0;
  }
}

template <int kTeams>
void launch_wide(const ResidentArgs& k, const QuantizePlan& plan, cudaStream_t stream) {
  using AllShared = WideShared<kTeams>;
  constexpr int kThreads = kTeams * (AllShared::kWarps + AllShared::kHelpers) * 32, kBytes = sizeof(AllShared);
  constexpr auto kernel = quantize_act_wide_kernel<kTeams, kThreads>;
  static const bool allowed = (allow_shared_bytes(kernel, kBytes), true);
  static_cast<void>(allowed);
  launch_dependent(kernel, LaunchConfig{plan.ctas, kThreads, kBytes, stream}, k);
}

}  // namespace

void launch_quantize_act_wide_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, const QuantizePlan& plan,
                                   cudaStream_t stream) {
  const ActFormat& f = p.format;
  const int parts = (f.k_in + kPartChannels - 1) / kPartChannels;
  const ResidentArgs k{p, args, scale_constants(f), hadamard_scale(kGroup), 1, 0, 1, parts, kPartChannels};
  switch (plan.teams) {
    case 1: return launch_wide<1>(k, plan, stream);
    case 2: return launch_wide<2>(k, plan, stream);
    case 3: return launch_wide<3>(k, plan, stream);
    case 4: return launch_wide<4>(k, plan, stream);
    default: return launch_wide<5>(k, plan, stream);
  }
}

}  // namespace comet::cuda
