// SPDX-License-Identifier: Apache-2.0
// quantize_act of more than a few normed or permuted bf16 rows of up to 8,192 channels (normed, a token a pass:
// 14,336), without clusters: in a CTA one team of warps or several, each with tokens of its own and its own barriers.
//
// A team is a warp for every four groups (8 lanes share a group, tile/quantize_units.cuh) and, for normed rows,
// helpers: they make the inverse of the norm a pass ahead, and their last warp copies the first rows. Order and gain,
// which do not change from token to token, lie once in shared memory, for all teams, where two tokens a pass fill the
// registers.
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

// Of a team, kTeamBarriers apart; of all teams' consumers: kAllBarrier, kBegunBarrier.
constexpr int kTeamBarriers = 4, kAllBarrier = 0, kBegunBarrier = 15;
constexpr int kMostBuffers = 3;  // one is read, one is written, one is cleared

template <int kTokens>
struct Team {
  uint64_t full[kStages], normed[kStages];
  float inverse[kStages][kTokens];
  uint32_t most[kMostBuffers][kTokens][2];  // of the regions
  uint32_t sums[2][kTokens];
  float chains[kTokens == 1 ? kStages : 1][kTokens == 1 ? kGroup : 1];
};

// Whether order and gain lie in shared memory as lanes read them, 16 bytes at a time; else they stay in registers,
// which two tokens or more than 20 warps leave no room for.
constexpr bool is_stored(int tokens, int most_channels) { return tokens == 2 || most_channels > kMostTeamChannels; }

template <ActSource kSource, int kTokens, int kTeams, int kMostChannels>
struct Shared {
  static constexpr int kRowBytes =
      kMostChannels * channel_bytes(kSource) + 16;  // zeros at the end: where padding channels come from
  alignas(128) Team<kTokens> team[kTeams];
  alignas(16) char rows[kTeams][kStages][kTokens][kRowBytes];
  alignas(16) uint32_t gain[kSource == ActSource::rms_norm ? kMostChannels : 4];
  alignas(16) uint32_t order[is_stored(kTokens, kMostChannels) ? kMostChannels : 4];
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

// kHelpers: 4 sum the squares of a row from global memory, while it is copied; 1 and 2 from shared memory, of all
// tokens or each of one.
template <ActSource kSource, int kTokens, int kTeams, int kHelpers, int kMostChannels, int kCtaThreads, int kCtasPerSm>
__global__ void __launch_bounds__(kCtaThreads, kCtasPerSm)
    quantize_act_teams_kernel(const __grid_constant__ ResidentArgs k) {
  using AllShared = Shared<kSource, kTokens, kTeams, kMostChannels>;
  static_assert(sizeof(AllShared) <= kMostRowBytes && 2 + kTeamBarriers * kTeams <= 16);
  constexpr bool kIsNormed = kSource == ActSource::rms_norm;
  static_assert(kIsNormed ? kHelpers == 1 || kHelpers == (kTokens == 1 ? 4 : 2) : kHelpers == 0 && kTokens == 1);
  constexpr bool kIsStored = is_stored(kTokens, kMostChannels);
  constexpr int kRowBytes = AllShared::kRowBytes, kConsumers = kMostChannels / kGroup / kWarpGroups,
                kTeamWarps = kConsumers + kHelpers, kTeamThreads = kConsumers * 32,
                kAllConsumers = kTeams * kTeamThreads, kBegunThreads = kAllConsumers + (kHelpers > 0 ? kTeams * 32 : 0),
                kSize = channel_bytes(kSource),
                kInFlight = kMostChannels > kMostTeamChannels ? 32 : kMostChannels / kGroup;  // of a row that is summed
  static_assert(kCtaThreads == kTeams * kTeamWarps * 32);
  extern __shared__ __align__(128) char shared[];
  AllShared& all = *reinterpret_cast<AllShared*>(shared);
  const ActFormat& f = k.p.format;
  const int m = k.p.m, n8 = f.num_int8_groups, groups = f.k / kGroup, lane = threadIdx.x % 32, t = lane % kUnitLanes;
  const int cta_warp = __shfl_sync(~0u, threadIdx.x / 32, 0);  // said to be the same in all lanes
  const int team = kTeams == 1 ? 0 : cta_warp / kTeamWarps, warp = cta_warp - team * kTeamWarps;
  Team<kTokens>& s = all.team[team];
  const auto bar = [](uint64_t& b) { return ptx::shared_address(&b); };
  const int consumers_barrier = kConsumersBarrier + team * kTeamBarriers,
            helpers_barrier = kHelpersBarrier + team * kTeamBarriers,
            read_barrier = kReadBarrier + team * kTeamBarriers;  // of stage 0; of stage 1 the next
  const int busy = (groups + kWarpGroups - 1) / kWarpGroups, team_threads = busy * 32,  // of warps that have groups
      readers = team_threads + (kHelpers == 2 ? 64 : 32);
  const int step = gridDim.x * kTeams, first_pass = blockIdx.x + team * gridDim.x,
            valid_passes = (m + kTokens - 1) / kTokens;

  const auto row_of = [&](int token) {
    const size_t row = k.a.row_ids != nullptr ? k.a.row_ids[token] : token;
    return static_cast<const char*>(k.a.x) + row * f.k_in * kSize;
  };
  const auto copy_rows = [&](int pass, int stage) {  // by one thread
    if (pass >= valid_passes) return;
    const uint32_t bytes = f.k_in * kSize, b = bar(s.full[stage]);
    const int tokens = kTokens == 1 ? 1 : min(kTokens, m - pass * kTokens);
    ptx::mbarrier_arrive_expect(b, bytes * tokens);
#pragma unroll
    for (int i = 0; i < kTokens; ++i)
      if (i < tokens) {
        const uint32_t to = ptx::shared_address(all.rows[team][stage][i]);
        if constexpr (kTokens == 1)  // helpers read it, too
          ptx::bulk_copy(to, row_of(pass * kTokens + i), bytes, b);
        else  // many tokens: the L2 is for the codes, which the GEMM reads next
          ptx::bulk_copy_once(to, row_of(pass * kTokens + i), bytes, b, ptx::read_once());
      }
  };
  const auto init_barriers = [&] {  // by one thread
    for (int i = 0; i < kStages; ++i)
      ptx::mbarrier_init(bar(s.full[i]), 1), ptx::mbarrier_init(bar(s.normed[i]), kTokens);
    ptx::fence_mbarrier_init();
  };
  ptx::allow_next_kernel();

  if (kHelpers > 0 && warp >= kConsumers) {
    const int helper = warp - kConsumers, thread = helper * 32 + lane;
    const bool is_lead = helper == kHelpers - 1, is_copier = is_lead && lane == 0;
    if (is_lead) {
      if (lane == 0) init_barriers();
      __syncwarp();
    }
    // One token: its row is needed first. Two: order and gains are, and would come behind all rows of all teams.
    if constexpr (kTokens == 1) {
      if (is_lead) ptx::named_barrier_arrive(kBegunBarrier, kBegunThreads);
      ptx::wait_for_previous_kernel();
    } else {
      if (is_lead) {
        ptx::wait_for_previous_kernel();
        if (is_copier && team == 0) copy_rows(first_pass, 0);
        ptx::named_barrier_sync(kBegunBarrier, kBegunThreads);
        if (is_copier && team != 0) copy_rows(first_pass, 0);
        if (is_copier) copy_rows(first_pass + step, 1);
      }
      if constexpr (kHelpers == 2) ptx::named_barrier_sync(helpers_barrier, 64);  // barriers are initialised
    }
    int count = 0;
    for (int pass = first_pass; pass < valid_passes; pass += step, ++count) {
      const int stage = count % kStages, phase = count / kStages % 2;
      float inverse;
      if constexpr (kHelpers == 4) {
        const auto first_copies = [&] {
          if (is_copier && count == 0) copy_rows(first_pass, 0), copy_rows(first_pass + step, 1);
        };
        s.chains[stage][thread] =
            chain_of_global<kInFlight>(reinterpret_cast<const float*>(row_of(pass)), f.k_in, thread, first_copies);
        ptx::named_barrier_sync(helpers_barrier, kGroup);
        if (!is_lead) continue;
        inverse = rms_inverse(tree_of_chains(s.chains[stage], lane), f.k_in, k.a.eps);
      } else {
        ptx::mbarrier_wait(bar(s.full[stage]), phase);
        const auto row = [&](int i) { return reinterpret_cast<const float*>(all.rows[team][stage][i]); };
        float sum;
        if constexpr (kHelpers == 2) {
          sum = sum_of_squares_by_warp(row(helper), f.k_in, lane);
        } else {
          const float* both[kTokens];
          for (int i = 0; i < kTokens; ++i) both[i] = row(i);
          float sums[kTokens];
          sums_of_squares_by_warp<kTokens>(both, f.k_in, lane, sums);
          sum = lane == 0 ? sums[0] : sums[kTokens - 1];
        }
        inverse = rms_inverse(sum, f.k_in, k.a.eps);
      }
      if (count >= kStages) ptx::named_barrier_sync(read_barrier + stage, readers);  // its inverse is read
      if (lane < (kHelpers == 1 ? kTokens : 1)) {
        s.inverse[stage][kHelpers == 2 ? helper : lane] = inverse;
        ptx::mbarrier_arrive(bar(s.normed[stage]));
      }
      __syncwarp();
    }
    return;
  }

  const int group = warp * kWarpGroups + lane / kUnitLanes, thread = warp * 32 + lane;
  const bool is_mine = group < groups, is_rotated = f.rotate && group >= n8;
  if (kHelpers == 0 && thread == 0) init_barriers();
  if (thread < kStages * kTokens * 4)
    *reinterpret_cast<uint32_t*>(all.rows[team][0][0] + thread / 4 * kRowBytes + f.k_in * kSize + thread % 4 * 4) = 0;
  if (thread < kMostBuffers * kTokens * 2) s.most[0][0][thread] = 0;
  if (thread < 2 * kTokens) s.sums[0][thread] = 0;

  // With kIsStored a team makes every kTeams-th piece of the order, for all.
  uint32_t order[kUnit];
  float gain[kUnit];
  const auto is_own = [&](int i) { return !kIsStored || i / 4 % kTeams == team; };
  const uint32_t own_order = ptx::shared_address(all.order) + (warp * 128 + lane) * 16,
                 own_gain = ptx::shared_address(all.gain) + (warp * 128 + lane) * 16;  // 512 bytes to the next four
  {
    int channels[kUnit];
#pragma unroll
    for (int i = 0; i < kUnit; i += 4) {
      // Bit 2 turned in half of the groups: an order that changes nothing still meets 8 banks and not 4.
      const int first =
          (is_mine ? group : 0) * kGroup + (is_rotated ? channel_before(i ^ (lane >> 1 & 4), t) : channel_after(i, t));
      int4 p{first, first + 1, first + 2, first + 3};
      if (k.a.perm != nullptr && is_own(i)) p = *reinterpret_cast<const int4*>(k.a.perm + first);
      channels[i] = p.x, channels[i + 1] = p.y, channels[i + 2] = p.z, channels[i + 3] = p.w;
    }
    float* const gains = reinterpret_cast<float*>(kIsStored ? all.order : all.gain);
    if constexpr (kIsNormed) stage_all_gains<kMostChannels, kAllConsumers>(k, team * kTeamThreads + thread, gains);
    ptx::named_barrier_sync(kBegunBarrier, kBegunThreads);
#pragma unroll
    for (int i = 0; i < kUnit; ++i) {
      const bool is_padding = !is_mine || channels[i] < 0 || channels[i] >= f.k_in;
      order[i] = (is_padding ? f.k_in : channels[i]) * kSize;
      gain[i] = !kIsNormed || is_padding || !is_own(i) ? 0.0f : gains[channels[i]];
    }
  }
  if constexpr (kIsStored) {
    ptx::named_barrier_sync(kAllBarrier, kAllConsumers);
#pragma unroll
    for (int i = 0; i < kUnit; i += 4)
      if (is_own(i)) {
        ptx::store_shared_v4(own_order + i * 128, {order[i], order[i + 1], order[i + 2], order[i + 3]});
        ptx::store_shared_v4(own_gain + i * 128, {float_bits(gain[i]), float_bits(gain[i + 1]), float_bits(gain[i + 2]),
                                                  float_bits(gain[i + 3])});
      }
    ptx::named_barrier_sync(kAllBarrier, kAllConsumers);
  }
  const Rotation rotation(lane, k.hadamard_scale, (lane & 8) != 0);
  ptx::wait_for_previous_kernel();
  const int copier = busy > 1 ? 32 : 0;  // a thread of the second warp: the first has more to do
  if (kHelpers == 0 && thread == copier) copy_rows(first_pass, 0), copy_rows(first_pass + step, 1);
  if (warp >= busy) return;

  const uint32_t rows = ptx::shared_address(all.rows[team]);
  const uint32_t own_values = static_cast<uint32_t>(group * padded_tokens(m)) * kGroup;
  const bool is_first = group < n8, is_4bit = !is_first && f.bits2 == 4;
  const bool wants_r = warp * kWarpGroups < n8 || warp == 0;  // the warp: warp 0 writes it
  const auto finish_sums = [&](int pass, int parity) {
    if (thread >= kTokens) return;
    k.a.out.sums[pass * kTokens + thread] = s.sums[parity][thread];
    s.sums[parity][thread] = 0;
  };
  int count = 0, pass = first_pass, buffer = 0;
  for (; pass < valid_passes; pass += step, ++count) {
    const int stage = count % kStages, phase = count / kStages % 2, token0 = pass * kTokens;
    const uint32_t row = rows + stage * (kTokens * kRowBytes);
    ptx::mbarrier_wait(bar(s.full[stage]), phase);
    float x[kTokens][kUnit];
#pragma unroll
    for (int i = 0; i < kUnit; i += 4) {
      uint4 o{order[i], order[i + 1], order[i + 2], order[i + 3]};
      if constexpr (kIsStored) o = ptx::load_shared_v4(own_order + i * 128);
      const uint32_t from[4] = {row + o.x, row + o.y, row + o.z, row + o.w};
#pragma unroll
      for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int token = 0; token < kTokens; ++token)
          x[token][i + j] = kIsNormed ? ptx::load_shared_float(from[j] + token * kRowBytes)
                                      : bf16_low(ptx::load_shared_u16(from[j] + token * kRowBytes));
    }
    if constexpr (kIsNormed) {
      ptx::mbarrier_wait(bar(s.normed[stage]), phase);
      float inverse[kTokens];
#pragma unroll
      for (int token = 0; token < kTokens; ++token) inverse[token] = s.inverse[stage][token];
#pragma unroll
      for (int i = 0; i < kUnit; i += 4) {
        float g[4] = {gain[i], gain[i + 1], gain[i + 2], gain[i + 3]};
        if constexpr (kIsStored) {
          const uint4 v = ptx::load_shared_v4(own_gain + i * 128);
          g[0] = float_from_bits(v.x), g[1] = float_from_bits(v.y), g[2] = float_from_bits(v.z),
          g[3] = float_from_bits(v.w);
        }
#pragma unroll
        for (int token = 0; token < kTokens; ++token)
#pragma unroll
          for (int j = 0; j < 4; ++j) x[token][i + j] = (x[token][i + j] * inverse[token]) * g[j];
      }
    }
    uint32_t token_most[kTokens];
#pragma unroll
    for (int token = 0; token < kTokens; ++token) {
      rotate_where(is_rotated, x[token], rotation);
      token_most[token] = largest_bits(x[token]);
    }
    const int own_token = lane % kTokens;
    const uint32_t own_most = group_most<kTokens>(token_most, lane);
    if (t < kTokens)
      ptx::reduce_max_shared(ptx::shared_address(&s.most[buffer][own_token][is_first ? 0 : 1]), own_most);
    const bool is_refilled = pass + kStages * step < valid_passes;
    if (kHelpers > 0 && is_refilled) ptx::named_barrier_arrive(read_barrier + stage, readers);
    ptx::named_barrier_sync(consumers_barrier, team_threads);
    if (thread == copier && is_refilled) copy_rows(pass + kStages * step, stage);
    const uint2 most = *reinterpret_cast<const uint2*>(s.most[buffer][own_token]);
    buffer = buffer == kMostBuffers - 1 ? 0 : buffer + 1;
    if (warp == busy - 1 && lane < kTokens * 2)  // of the pass after the next, read before the barrier
      s.most[buffer == kMostBuffers - 1 ? 0 : buffer + 1][0][lane] = 0;
    if (count > 0) finish_sums(pass - step, (count - 1) % 2);

    const bool is_bad = max(most.x, most.y) >= kNotFinite || token0 + own_token >= m;
    const float amax1 = float_from_bits(most.x), amax2 = float_from_bits(most.y);
    const TokenScales scales = is_bad ? TokenScales{0.0f, 1} : scales_of(amax1, amax2, k.scales, wants_r);
    // Of the token lane % kTokens; then each lane gets its group's of every token.
    const Encoding own = encoding_of(scales, is_first ? amax1 : amax2, own_most, is_first, is_4bit, k.scales.clip2);
#pragma unroll
    for (int i = 0; i < kTokens; ++i) {
      const int from = (lane & ~(kTokens - 1)) + i, token = token0 + i;
      const Encoding e =
          kTokens == 1 ? own
                       : Encoding{__shfl_sync(~0u, own.inverse_step, from), __shfl_sync(~0u, own.multiplier, from)};
      uint32_t words[4];
      const int sum = encode(x[i], e, is_4bit ? kLimits4 : kLimits8, words);
      store_words(k.a.out.values, own_values, false, token, t, is_mine, words);
      if (k.a.out.multipliers != nullptr || k.a.out.group_sums != nullptr)
        store_group(k, token, group, groups, t, is_mine && token < m, e.multiplier, sum);
      const int r = kTokens == 1 ? scales.r : __shfl_sync(~0u, scales.r, from);
      const uint32_t osum = __reduce_add_sync(~0u, static_cast<uint32_t>(is_first ? r * sum : sum));
      if (lane == 0) ptx::reduce_add_shared(ptx::shared_address(&s.sums[count % 2][i]), osum);
    }
    if (thread < kTokens) {
      const int token = token0 + thread;
      k.a.out.scales[token] = scales.sx;
      k.a.out.region1_factors[token] = scales.sx == 0.0f ? 1 : scales.r;
      if (is_bad && token < m && k.a.row_errors != nullptr && k.a.row_errors[token] == 0)
        k.a.row_errors[token] = k.a.error_tag;
    }
  }
  ptx::named_barrier_sync(consumers_barrier, team_threads);
  if (count > 0) finish_sums(pass - step, (count - 1) % 2);
  const uint32_t zeros[4] = {0, 0, 0, 0};
  for (; pass < padded_tokens(m) / kTokens; pass += step)
#pragma unroll
    for (int i = 0; i < kTokens; ++i) {
      const int token = pass * kTokens + i;
      store_words(k.a.out.values, own_values, false, token, t, is_mine, zeros);
      if (thread == 0) k.a.out.scales[token] = 0.0f, k.a.out.region1_factors[token] = 1, k.a.out.sums[token] = 0;
    }
}

template <ActSource kSource, int kTokens, int kTeams, int kHelpers, int kMostChannels, int kCtasPerSm>
void launch(const ResidentArgs& k, const QuantizePlan& plan, cudaStream_t stream) {
  constexpr int kThreads = kTeams * (kMostChannels / kGroup / kWarpGroups + kHelpers) * 32;
  constexpr auto kernel =
      quantize_act_teams_kernel<kSource, kTokens, kTeams, kHelpers, kMostChannels, kThreads, kCtasPerSm>;
  constexpr int kBytes = sizeof(Shared<kSource, kTokens, kTeams, kMostChannels>);
  static const bool allowed = (allow_shared_bytes(kernel, kBytes), true);
  static_cast<void>(allowed);
  launch_dependent(kernel, LaunchConfig{plan.ctas, kThreads, kBytes, stream}, k);
}

}  // namespace

void launch_quantize_act_teams_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, const QuantizePlan& plan,
                                    cudaStream_t stream) {
  const ActFormat& f = p.format;
  const ResidentArgs k{p, args, scale_constants(f), hadamard_scale(kGroup), 1, plan.cta_groups, kStages, 1, 0};
  if (p.source == ActSource::bf16) return launch<ActSource::bf16, 1, 1, 0, 8192, 2>(k, plan, stream);
  constexpr ActSource kNormed = ActSource::rms_norm;
  if (plan.tokens == 2)
    return plan.teams == 3 ? launch<kNormed, 2, 3, 1, 4096, 1>(k, plan, stream)
                           : launch<kNormed, 2, 1, 2, 8192, 1>(k, plan, stream);
  if (f.k_in > kMostTeamChannels || f.k > kMostTeamChannels)
    return launch<kNormed, 1, 1, 4, kMostLongTeamChannels, 1>(k, plan, stream);
  return plan.teams == 2 ? launch<kNormed, 1, 2, 4, 4096, 1>(k, plan, stream)
                         : launch<kNormed, 1, 1, 4, 8192, 1>(k, plan, stream);
}

}  // namespace comet::cuda
