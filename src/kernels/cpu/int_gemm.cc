// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/int_gemm.h"

#include <algorithm>

#include "base/check.h"

namespace comet {
namespace {

constexpr IntGemmKernel kW4axGemms[] = {
    {"gemm_w4ax_avx512vnni", Isa::avx512vnni, avx512vnni::kMaxTokens, avx512vnni::kGemmW4ax, w4ax_panel_bytes},
    {"gemm_w4ax_avx2", Isa::avx2, avx2::kMaxTokens, avx2::kGemmW4ax, w4ax_panel_bytes},
};
constexpr IntGemmKernel kW8a8Gemms[] = {
    {"gemm_w8a8_avx512vnni", Isa::avx512vnni, avx512vnni::kMaxTokens, avx512vnni::kGemmW8a8, w8_panel_bytes},
    {"gemm_w8a8_avx2", Isa::avx2, avx2::kMaxTokens, avx2::kGemmW8a8, w8_panel_bytes},
};

// A chunk's activations stay in L2 (1 MB and more on the machines that matter) while panels stream past them.
constexpr size_t kChunkBytes = size_t{384} << 10;
// What a thread takes at once: long enough for the prefetchers, short enough to balance.
constexpr size_t kClaimBytes = size_t{64} << 10;
// Groups of one tile that are packed per claim; below, waking the other threads costs more than the work.
constexpr int64_t kPackedGroupsPerClaim = 64;

int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Activations in the tiles' byte order (gemm_tile.h): tile after tile, values then value sums.
struct PackedActs {
  const int8_t* values = nullptr;       // tile of first token t: at t * k
  const int16_t* value_sums = nullptr;  // at t * k / 128
};

// Group g of the tokens [first, first + count).
void pack_group(const QuantizedActs& a, int k, int first, int count, int g, int8_t* values, int16_t* value_sums) {
  const int groups = k / kGroup;
  values += static_cast<size_t>(first) * k + static_cast<size_t>(g) * kGroup * count;
  for (int i = 0; i < kGroup; i += 4)
    for (int t = 0; t < count; ++t) {
      memcpy(values, a.values + static_cast<size_t>(first + t) * k + g * kGroup + i, 4);
      values += 4;
    }
  for (int t = 0; t < count; ++t) {
    const size_t at = static_cast<size_t>(first + t) * groups + g;
    value_sums[static_cast<size_t>(first) * groups + static_cast<size_t>(g) * count + t] =
        static_cast<int16_t>(a.multipliers[at] * a.group_sums[at]);
  }
}

PackedActs pack_acts(const IntGemmPlan& plan, const GemmProblem& p, const QuantizedActs& a, ThreadPool& pool,
                     CpuScratch& scratch) {
  const int groups = p.k / kGroup;
  const size_t values_bytes = static_cast<size_t>(p.m) * p.k, sums_count = static_cast<size_t>(p.m) * groups;
  if (p.m == 1) {  // a row is its own tile
    int16_t* sums = static_cast<int16_t*>(scratch.reserve(sums_count * sizeof(int16_t)));
    for (int g = 0; g < groups; ++g) sums[g] = static_cast<int16_t>(a.multipliers[g] * a.group_sums[g]);
    return {a.values, sums};
  }
  int8_t* values = static_cast<int8_t*>(scratch.reserve(values_bytes + sums_count * sizeof(int16_t)));
  int16_t* sums = reinterpret_cast<int16_t*>(values + values_bytes);
  pool.parallel_for(int64_t{plan.num_tiles} * groups, kPackedGroupsPerClaim, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int tile = static_cast<int>(i / groups), g = static_cast<int>(i % groups);
      pack_group(a, p.k, plan.first_token(tile), plan.tokens(tile), g, values, sums);
    }
  });
  return {values, sums};
}

}  // namespace

std::span<const IntGemmKernel> w4ax_gemms() { return kW4axGemms; }
std::span<const IntGemmKernel> w8a8_gemms() { return kW8a8Gemms; }

IntGemmPlan plan_int_gemm(const GemmProblem& p, int max_tokens, size_t panel_bytes, int num_threads) {
  IntGemmPlan plan;
  plan.num_panels = num_panels(p.n);
  plan.num_tiles = ceil_div(p.m, max_tokens);
  plan.tile_tokens = p.m / plan.num_tiles;
  plan.num_large_tiles = p.m % plan.num_tiles;
  const size_t tile_bytes = static_cast<size_t>(plan.tokens(0)) * p.k;
  plan.tiles_per_chunk = std::clamp(static_cast<int>(kChunkBytes / tile_bytes), 1, plan.num_tiles);
  // Several tasks for each thread, where there are enough tiles.
  while (plan.tiles_per_chunk > 1 &&
         int64_t{plan.num_panels} * ceil_div(plan.num_tiles, plan.tiles_per_chunk) < 4 * num_threads)
    plan.tiles_per_chunk = ceil_div(plan.tiles_per_chunk, 2);
  plan.num_chunks = ceil_div(plan.num_tiles, plan.tiles_per_chunk);
  plan.tiles_per_chunk = ceil_div(plan.num_tiles, plan.num_chunks);
  const int64_t tasks = int64_t{plan.num_panels} * plan.num_chunks;
  const int64_t by_bytes = static_cast<int64_t>(kClaimBytes / panel_bytes) / plan.tiles_per_chunk;
  plan.tasks_per_claim = std::max<int64_t>(1, std::min(by_bytes, tasks / (4 * num_threads)));
  return plan;
}

std::string to_string(const IntGemmPlan& plan) {
  return fmt::format("{} tiles of {} tokens ({} of them one more) in {} chunks, {} panels, {} tasks per claim",
                     plan.num_tiles, plan.tile_tokens, plan.num_large_tiles, plan.num_chunks, plan.num_panels,
                     plan.tasks_per_claim);
}

void run_int_gemm(const IntGemmKernel& kernel, const GemmProblem& p, const GemmArgs& args, ThreadPool& pool,
                  CpuScratch& scratch) {
  if (p.m == 0) return;
  const size_t panel_bytes = kernel.panel_bytes(p.k),
               out_bytes = p.output == GemmOutput::bf16 ? sizeof(bf16) : sizeof(float);
  const IntGemmPlan plan = plan_int_gemm(p, kernel.max_tokens, panel_bytes, pool.num_threads());
  const PackedActs acts = pack_acts(plan, p, args.a, pool, scratch);
  auto run_tile = [&](int tile, int panel) {
    const int64_t t = plan.first_token(tile), channel = int64_t{panel} * kPanel;
    kernel.tiles[plan.tokens(tile) - 1]({
        .k = p.k,
        .num_int8_groups = p.num_int8_groups,
        .panel = static_cast<const uint8_t*>(args.b.data) + static_cast<size_t>(panel) * panel_bytes,
        .values = acts.values + t * p.k,
        .value_sums = acts.value_sums + t * (p.k / kGroup),
        .region1_factors = args.a.region1_factors + t,
        .scales = args.a.scales + t,
        .sums = args.a.sums + t,
        .channel_scales = args.channel_scales + channel,
        .bias = args.bias != nullptr ? args.bias + channel : nullptr,
        .num_channels = static_cast<int>(std::min<int64_t>(kPanel, p.n - channel)),
        .output = p.output,
        .d = static_cast<char*>(args.d) + static_cast<size_t>(t * p.n + channel) * out_bytes,
        .d_stride = p.n,
    });
  };
  pool.parallel_for(
      int64_t{plan.num_chunks} * plan.num_panels, plan.tasks_per_claim, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
          const int chunk = static_cast<int>(i / plan.num_panels), panel = static_cast<int>(i % plan.num_panels);
          const int first = chunk * plan.tiles_per_chunk, last = std::min(plan.num_tiles, first + plan.tiles_per_chunk);
          for (int tile = first; tile < last; ++tile) run_tile(tile, panel);
        }
      });
}

}  // namespace comet
