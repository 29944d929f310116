// SPDX-License-Identifier: Apache-2.0
// quantize_act of more than a few normed or permuted bf16 rows of up to 8,192 channels, without clusters: in a CTA one
// team of warps or two, each with tokens of its own and its own barriers.
//
// A team is a warp for every four groups (8 lanes share a group, tile/quantize_units.cuh) and, for normed rows, four
// helpers: they make the inverse of the norm a pass ahead, and their last warp copies the first rows. Order and gain,
// which do not change from token to token, stay in registers.
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

// Of a team, kTeamBarriers apart; of all teams' consumers: kBegunBarrier.
constexpr int kTeamBarriers = 4, kBegunBarrier = 15;
constexpr int kMostBuffers = 3;  // one is read, one is written, one is cleared

struct Team {
  uint64_t full[kStages], normed[kStages];
  float inverse[kStages];
  uint32_t most[kMostBuffers][2];  // of the regions
  uint32_t sums[2];
  float chains[kStages][kGroup];
};

template <ActSource kSource, int kTeams, int kMostChannels>
struct Shared {
  static constexpr int kRowBytes =
      kMostChannels * channel_bytes(kSource) + 16;  // zeros at the end: where padding channels come from
  alignas(128) Team team[kTeams];
  alignas(16) char rows[kTeams][kStages][kRowBytes];
  alignas(16) uint32_t gain[kSource == ActSource::rms_norm ? kMostChannels : 4];
};

// The gains in the row's order as f32, by kThreads threads, kMost of them at most: all are on their way at once.
template <int kMost, int kThreads>
__device__ __forceinline__ void stage_all_gains(const ResidentArgs& k, int thread, float* to) {
  constexpr int kEach = (kMost / 4 + kThreads - 1) / kThreads;
  const int n = k.p.format.k_in;
  const bool is_f32 = k.a.gain_dtype == DType::f32, is_bf16 = k.a.gain_dtype == DType::bf16;
  const auto of_half = [&](uint32_t pair, bool is_high) {
    if (is_bf16) return is_high ? bf16_high(pair) : bf16_low(pair);
    return to_float(f16{static_cast<uint16_t>(is_high ? pair >> 16 : pair)});
  };
  if (reinterpret_cast<size_t>(k.a.gain) % (is_f32 ? 16 : 8) != 0) {
#pragma unroll 1
    for (int i = thread; i < n; i += kThreads)
      to[i] =
          is_f32 ? static_cast<const float*>(k.a.gain)[i] : of_half(static_cast<const uint16_t*>(k.a.gain)[i], false);
    return;
  }
  uint4 v[kEach];
#pragma unroll
  for (int j = 0; j < kEach; ++j)
    if (const int i = j * kThreads + thread; i * 4 < n) {
      if (is_f32) {
        v[j] = static_cast<const uint4*>(k.a.gain)[i];
      } else {
        const uint2 half = static_cast<const uint2*>(k.a.gain)[i];
        v[j].x = half.x, v[j].y = half.y;
      }
    }
#pragma unroll
  for (int j = 0; j < kEach; ++j)
    if (const int i = j * kThreads + thread; i * 4 < n) {
      float4 gain{float_from_bits(v[j].x), float_from_bits(v[j].y), float_from_bits(v[j].z), float_from_bits(v[j].w)};
      if (!is_f32)
        gain = {of_half(v[j].x, false), of_half(v[j].x, true), of_half(v[j].y, false), of_half(v[j].y, true)};
      *reinterpret_cast<float4*>(to + i * 4) = gain;
    }
}

template <ActSource kSource, int kTeams, int kMostChannels, int kCtaThreads, int kCtasPerSm>
__global__ void __launch_bounds__(kCtaThreads, kCtasPerSm)
    quantize_act_teams_kernel(const __grid_constant__ ResidentArgs k) {
  using AllShared = Shared<kSource, kTeams, kMostChannels>;
  static_assert(sizeof(AllShared) <= kMostRowBytes && 2 + kTeamBarriers * kTeams <= 16);
  constexpr bool kIsNormed = kSource == ActSource::rms_norm;
  constexpr int kHelpers = helper_warps(kSource), kConsumers = kMostChannels / kGroup / kWarpGroups,
                kTeamWarps = kConsumers + kHelpers, kTeamThreads = kConsumers * 32,
                kAllConsumers = kTeams * kTeamThreads, kBegunThreads = kAllConsumers + (kHelpers > 0 ? kTeams * 32 : 0),
                kSize = channel_bytes(kSource), kRowBytes = AllShared::kRowBytes;
  static_assert(kCtaThreads == kTeams * kTeamWarps * 32);
  extern __shared__ __align__(128) char shared[];
  AllShared& all = *reinterpret_cast<AllShared*>(shared);
  const ActFormat& f = k.p.format;
  const int m = k.p.m, n8 = f.num_int8_groups, groups = f.k / kGroup, lane = threadIdx.x % 32, t = lane % kUnitLanes;
  const int cta_warp = __shfl_sync(~0u, threadIdx.x / 32, 0);  // said to be the same in all lanes
  const int team = kTeams == 1 ? 0 : cta_warp / kTeamWarps, warp = cta_warp - team * kTeamWarps;
  Team& s = all.team[team];
  const auto bar = [](uint64_t& b) { return ptx::shared_address(&b); };
  const int consumers_barrier = kConsumersBarrier + team * kTeamBarriers,
            helpers_barrier = kHelpersBarrier + team * kTeamBarriers,
            read_barrier = kReadBarrier + team * kTeamBarriers;  // of stage 0; of stage 1 the next
  const int busy = (groups + kWarpGroups - 1) / kWarpGroups, team_threads = busy * 32,  // of warps that have groups
      readers = team_threads + 32;
  const int step = gridDim.x * kTeams, first_token = blockIdx.x + team * gridDim.x;

  const auto row_of = [&](int token) {
    const size_t row = k.a.row_ids != nullptr ? k.a.row_ids[token] : token;
    return static_cast<const char*>(k.a.x) + row * f.k_in * kSize;
  };
  const auto copy_row = [&](int token, int stage) {  // by one thread
    if (token >= m) return;
    const uint32_t bytes = f.k_in * kSize, b = bar(s.full[stage]);
    ptx::mbarrier_arrive_expect(b, bytes);
    ptx::bulk_copy(ptx::shared_address(all.rows[team][stage]), row_of(token), bytes, b);
  };
  const auto init_barriers = [&] {  // by one thread
    for (int i = 0; i < kStages; ++i) ptx::mbarrier_init(bar(s.full[i]), 1), ptx::mbarrier_init(bar(s.normed[i]), 1);
    ptx::fence_mbarrier_init();
  };
  ptx::allow_next_kernel();

  if (kHelpers > 0 && warp >= kConsumers) {
    const int helper = warp - kConsumers, thread = helper * 32 + lane;
    const bool is_lead = helper == kHelpers - 1;
    if (is_lead) {
      if (lane == 0) init_barriers();
      ptx::named_barrier_arrive(kBegunBarrier, kBegunThreads);
    }
    ptx::wait_for_previous_kernel();
    int count = 0;
    for (int token = first_token; token < m; token += step, ++count) {
      const int stage = count % kStages;
      const auto first_copies = [&] {
        if (is_lead && lane == 0 && count == 0) copy_row(first_token, 0), copy_row(first_token + step, 1);
      };
      s.chains[stage][thread] = chain_of_global<kMostChannels / kGroup>(reinterpret_cast<const float*>(row_of(token)),
                                                                        f.k_in, thread, first_copies);
      ptx::named_barrier_sync(helpers_barrier, kGroup);
      if (!is_lead) continue;
      const float inverse = rms_inverse(tree_of_chains(s.chains[stage], lane), f.k_in, k.a.eps);
      if (count >= kStages) ptx::named_barrier_sync(read_barrier + stage, readers);  // its inverse is read
      if (lane == 0) {
        s.inverse[stage] = inverse;
        ptx::mbarrier_arrive(bar(s.normed[stage]));
      }
      __syncwarp();
    }
    return;
  }

  const int group = warp * kWarpGroups + lane / kUnitLanes, thread = warp * 32 + lane;
  const bool is_mine = group < groups, is_rotated = f.rotate && group >= n8;
  if (kHelpers == 0 && thread == 0) init_barriers();
  if (thread < kStages * 4)
    *reinterpret_cast<uint32_t*>(all.rows[team][thread / 4] + f.k_in * kSize + thread % 4 * 4) = 0;
  if (thread < kMostBuffers * 2) s.most[0][thread] = 0;
  if (thread < 2) s.sums[thread] = 0;

  uint32_t order[kUnit];
  float gain[kUnit];
  {
    int channels[kUnit];
#pragma unroll
    for (int i = 0; i < kUnit; i += 4) {
      // Bit 2 turned in half of the groups: an order that changes nothing still meets 8 banks and not 4.
      const int first =
          (is_mine ? group : 0) * kGroup + (is_rotated ? channel_before(i ^ (lane >> 1 & 4), t) : channel_after(i, t));
      int4 p{first, first + 1, first + 2, first + 3};
      if (k.a.perm != nullptr) p = *reinterpret_cast<const int4*>(k.a.perm + first);
      channels[i] = p.x, channels[i + 1] = p.y, channels[i + 2] = p.z, channels[i + 3] = p.w;
    }
    float* const gains = reinterpret_cast<float*>(all.gain);
    if constexpr (kIsNormed) stage_all_gains<kMostChannels, kAllConsumers>(k, team * kTeamThreads + thread, gains);
    ptx::named_barrier_sync(kBegunBarrier, kBegunThreads);
#pragma unroll
    for (int i = 0; i < kUnit; ++i) {
      const bool is_padding = !is_mine || channels[i] < 0 || channels[i] >= f.k_in;
      order[i] = (is_padding ? f.k_in : channels[i]) * kSize;
      gain[i] = !kIsNormed || is_padding ? 0.0f : gains[channels[i]];
    }
  }
  const Rotation rotation(lane, k.hadamard_scale, (lane & 8) != 0);
  ptx::wait_for_previous_kernel();
  const int copier = busy > 1 ? 32 : 0;  // a thread of the second warp: the first has more to do
  if (kHelpers == 0 && thread == copier) copy_row(first_token, 0), copy_row(first_token + step, 1);
  if (warp >= busy) return;

  const uint32_t rows = ptx::shared_address(all.rows[team]);
  const uint32_t own_values = static_cast<uint32_t>(group * padded_tokens(m)) * kGroup;
  const bool is_first = group < n8, is_4bit = !is_first && f.bits2 == 4;
  const bool wants_r = warp * kWarpGroups < n8 || warp == 0;  // the warp: warp 0 writes it
  const auto finish_sum = [&](int token, int parity) {
    if (thread != 0) return;
    k.a.out.sums[token] = s.sums[parity];
    s.sums[parity] = 0;
  };
  int count = 0, token = first_token, buffer = 0;
  for (; token < m; token += step, ++count) {
    const int stage = count % kStages, phase = count / kStages % 2;
    const uint32_t row = rows + stage * kRowBytes;
    ptx::mbarrier_wait(bar(s.full[stage]), phase);
    float x[kUnit];
#pragma unroll
    for (int i = 0; i < kUnit; ++i)
      x[i] = kIsNormed ? ptx::load_shared_float(row + order[i]) : bf16_low(ptx::load_shared_u16(row + order[i]));
    if constexpr (kIsNormed) {
      ptx::mbarrier_wait(bar(s.normed[stage]), phase);
      const float inverse = s.inverse[stage];
#pragma unroll
      for (int i = 0; i < kUnit; ++i) x[i] = (x[i] * inverse) * gain[i];
    }
    rotate_where(is_rotated, x, rotation);
    const uint32_t token_most[1] = {largest_bits(x)}, own_most = group_most<1>(token_most, lane);
    if (t == 0) ptx::reduce_max_shared(ptx::shared_address(&s.most[buffer][is_first ? 0 : 1]), own_most);
    const bool is_refilled = token + kStages * step < m;
    if (kHelpers > 0 && is_refilled) ptx::named_barrier_arrive(read_barrier + stage, readers);
    ptx::named_barrier_sync(consumers_barrier, team_threads);
    if (thread == copier && is_refilled) copy_row(token + kStages * step, stage);
    const uint2 most = *reinterpret_cast<const uint2*>(s.most[buffer]);
    buffer = buffer == kMostBuffers - 1 ? 0 : buffer + 1;
    if (warp == busy - 1 && lane < 2)  // of the token after the next, read before the barrier
      s.most[buffer == kMostBuffers - 1 ? 0 : buffer + 1][lane] = 0;
    if (count > 0) finish_sum(token - step, (count - 1) % 2);

    const bool is_bad = max(most.x, most.y) >= kNotFinite;
    const float amax1 = float_from_bits(most.x), amax2 = float_from_bits(most.y);
    const TokenScales scales = is_bad ? TokenScales{0.0f, 1} : scales_of(amax1, amax2, k.scales, wants_r);
    const Encoding e = encoding_of(scales, is_first ? amax1 : amax2, own_most, is_first, is_4bit, k.scales.clip2);
    uint32_t words[4];
    const int sum = encode(x, e, is_4bit ? kLimits4 : kLimits8, words);
    store_words(k.a.out.values, own_values, false, token, t, is_mine, words);
    if (k.a.out.multipliers != nullptr || k.a.out.group_sums != nullptr)
      store_group(k, token, group, groups, t, is_mine, e.multiplier, sum);
    const uint32_t osum = __reduce_add_sync(~0u, static_cast<uint32_t>(is_first ? scales.r * sum : sum));
    if (lane == 0) ptx::reduce_add_shared(ptx::shared_address(&s.sums[count % 2]), osum);
    if (thread == 0) {
      k.a.out.scales[token] = scales.sx;
      k.a.out.region1_factors[token] = scales.sx == 0.0f ? 1 : scales.r;
      if (is_bad && k.a.row_errors != nullptr && k.a.row_errors[token] == 0) k.a.row_errors[token] = k.a.error_tag;
    }
  }
  ptx::named_barrier_sync(consumers_barrier, team_threads);
  if (count > 0) finish_sum(token - step, (count - 1) % 2);
  const uint32_t zeros[4] = {0, 0, 0, 0};
  for (; token < padded_tokens(m); token += step) {
    store_words(k.a.out.values, own_values, false, token, t, is_mine, zeros);
    if (thread == 0) k.a.out.scales[token] = 0.0f, k.a.out.region1_factors[token] = 1, k.a.out.sums[token] = 0;
  }
}

template <ActSource kSource, int kTeams, int kMostChannels, int kCtasPerSm>
void launch(const ResidentArgs& k, const QuantizePlan& plan, cudaStream_t stream) {
  constexpr int kThreads = kTeams * (kMostChannels / kGroup / kWarpGroups + helper_warps(kSource)) * 32;
  constexpr auto kernel = quantize_act_teams_kernel<kSource, kTeams, kMostChannels, kThreads, kCtasPerSm>;
  constexpr int kBytes = sizeof(Shared<kSource, kTeams, kMostChannels>);
  static const bool allowed = (allow_shared_bytes(kernel, kBytes), true);
  static_cast<void>(allowed);
  launch_dependent(kernel, LaunchConfig{plan.ctas, kThreads, kBytes, stream}, k);
}

}  // namespace

void launch_quantize_act_teams_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, const QuantizePlan& plan,
                                    cudaStream_t stream) {
  const ActFormat& f = p.format;
  const ResidentArgs k{p, args, scale_constants(f), hadamard_scale(kGroup), 1, plan.cta_groups, kStages, 1, 0};
  if (p.source == ActSource::bf16) return launch<ActSource::bf16, 1, kMostTeamChannels, 2>(k, plan, stream);
  return plan.teams == 2 ? launch<ActSource::rms_norm, 2, kMostTeamChannels / 2, 1>(k, plan, stream)
                         : launch<ActSource::rms_norm, 1, kMostTeamChannels, 1>(k, plan, stream);
}

}  // namespace comet::cuda
