// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/cpu/int_gemm.h"
#include "kernels/samples.h"

namespace comet {
namespace {

TEST(CpuBackend, RefusesAnUnknownIsaAndListsWhatThereIs) {
  try {
    cpu_backend("neon", std::make_shared<ThreadPool>(1));
    FAIL() << "accepted";
  } catch (const Unsupported& e) {
    EXPECT_NE(std::string(e.what()).find("neon"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("avx512vnni"), std::string::npos) << e.what();
  }
}

TEST(CpuBackend, PicksTheBestIsaAndForcesAnother) {
  const IsaSet have = detect_isas();
  for (Isa isa : kAllIsas) {
    if (!have.has(isa)) {
      EXPECT_THROW(cpu_backend(to_string(isa), std::make_shared<ThreadPool>(1)), Unsupported);
      continue;
    }
    const auto forced = cpu_backend(to_string(isa), std::make_shared<ThreadPool>(1));
    EXPECT_EQ(forced->name(), to_string(isa));
    for (const std::string& kernel : forced->kernels()) EXPECT_TRUE(kernel.ends_with(forced->name())) << kernel;
  }
  if (have.is_empty()) return;
  const auto best = cpu_backend("", std::make_shared<ThreadPool>(1));
  EXPECT_EQ(best->name(), have.has(Isa::avx512vnni) ? "avx512vnni" : "avx2");
}

TEST(CpuMemory, IsZeroAlignedAndReusable) {
  CpuMemory memory;
  for (size_t bytes : {size_t{0}, size_t{1}, size_t{64}, size_t{100000}, size_t{5} << 20}) {
    for (int round = 0; round < 2; ++round) {
      uint8_t* p = static_cast<uint8_t*>(memory.allocate(bytes));
      EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0u);
      EXPECT_TRUE(std::all_of(p, p + bytes, [](uint8_t b) { return b == 0; })) << bytes;
      memset(p, 0xff, bytes);
      memory.free(p);
    }
  }
  memory.free(nullptr);
  EXPECT_THROW(memory.allocate(size_t{1} << 60), InvalidInput);
  EXPECT_THROW(memory.allocate(SIZE_MAX), InvalidInput);
}

TEST(PackedWeights, PanelsHoldEveryCode) {
  const WeightsSample w = make_weights(37, 384, Codes::random, 1);
  const int groups = w.k / kGroup;
  for (int panel = 0; panel < num_panels(w.n); ++panel) {
    std::vector<uint8_t> packed4(w4ax_panel_bytes(w.k)), packed8(w8_panel_bytes(w.k));
    pack_w4ax_panel(w.w4ax(), panel, packed4.data());
    pack_w8_panel(w.w8(), panel, packed8.data());
    for (int c = 0; c < kPanel; ++c)
      for (int k = 0; k < w.k; ++k) {
        const size_t row = static_cast<size_t>(panel * kPanel + c);
        const bool is_padding = row >= static_cast<size_t>(w.n);
        const int code = packed4[w4ax_code_byte(c, k)] >> w4ax_code_shift(k) & 15;
        ASSERT_EQ(code, is_padding ? 0 : unpack_nibble(&w.codes[row * static_cast<size_t>(w.k / 2)], k))
            << panel << " " << c << " " << k;
        const uint8_t params = packed4[w4ax_params_byte(c, k / kGroup)];
        const size_t group = row * static_cast<size_t>(groups) + static_cast<size_t>(k / kGroup);
        ASSERT_EQ(params, is_padding ? 0 : pack_group_params(w.group_scales[group], w.group_zeros[group]));
        ASSERT_EQ(static_cast<int8_t>(packed8[w8_code_byte(c, k)]),
                  is_padding ? 0 : w.codes8[row * static_cast<size_t>(w.k) + static_cast<size_t>(k)]);
      }
  }
}

TEST(IntGemmPlan, CoversEveryTokenOnceInTilesThatFit) {
  for (int m : {1, 2, 11, 12, 13, 24, 25, 64, 257, 512, 5000})
    for (int k : {128, 2048, 65536})
      for (int n : {1, 16, 2560})
        for (int threads : {1, 2, 64})
          for (int max_tokens : {4, 12}) {
            const IntGemmPlan plan = plan_int_gemm({.m = m, .n = n, .k = k}, max_tokens, w4ax_panel_bytes(k), threads);
            SCOPED_TRACE(to_string(plan));
            int next = 0;
            for (int tile = 0; tile < plan.num_tiles; ++tile) {
              ASSERT_EQ(plan.first_token(tile), next);
              ASSERT_GE(plan.tokens(tile), 1);
              ASSERT_LE(plan.tokens(tile), max_tokens);
              next += plan.tokens(tile);
            }
            ASSERT_EQ(next, m);
            ASSERT_GE(plan.tiles_per_chunk, 1);
            ASSERT_GE(plan.num_chunks * plan.tiles_per_chunk, plan.num_tiles);
            ASSERT_LT((plan.num_chunks - 1) * plan.tiles_per_chunk, plan.num_tiles);
            ASSERT_EQ(plan.num_panels, (n + 15) / 16);
            ASSERT_GE(plan.tasks_per_claim, 1);
          }
}

}  // namespace
}  // namespace comet
