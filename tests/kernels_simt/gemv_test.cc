// SPDX-License-Identifier: Apache-2.0
// The text of gemv_w4ax_sm90 and gemv_w8a8_sm90, lane by lane on the CPU, against the reference: warps run ahead of one
// another by chance, slabs come at any time, and the ring comes round.
#include <cuda_bf16.h>
#include <gtest/gtest.h>

#include "kernels_simt/simt.h"

#include "kernels/cuda/gemm_sm90.h"
#include "kernels_cuda/gemm_samples.h"
#include "kernels_simt/aligned.h"

namespace comet::cuda {
alignas(1024) char shared[228 * 1024];
}

#include "kernels/cuda/gemv_w4ax_sm90.cu"
#include "kernels/cuda/gemv_w8a8_sm90.cu"

namespace comet::cuda {
namespace {

void pack(const GemmSample& s, uint8_t* packed) {
  const int n = s.problem.n, k = s.problem.k, groups = k / kGroup;
  for (int row = 0; row < n; ++row)
    for (int i = 0; i < k; ++i) {
      if (s.w8) {
        packed[weight_offset_w8(n, row, i)] = static_cast<uint8_t>(s.codes8[static_cast<size_t>(row) * k + i]);
        continue;
      }
      const int code = s.codes[static_cast<size_t>(row) * (k / 2) + i / 2] >> (i % 2 * 4) & 15;
      packed[weight_offset_w4(n, row, i)] |= static_cast<uint8_t>(code << (weight_is_high_w4(row) ? 4 : 0));
      const size_t at = static_cast<size_t>(row) * groups + i / kGroup;
      packed[weight_params_offset_w4(n, row, i / kGroup)] = pack_group_params(s.group_scales[at], s.group_zeros[at]);
    }
}

void check_case(const GemmCase& c, bool w8) {
  const GemmSample s(c, w8);
  const int unit_bytes = w8 ? kUnitBytesW8 : kUnitBytesW4;
  const size_t bytes = packed_weight_bytes(c.n, c.k, unit_bytes);
  const Aligned<uint8_t> packed{std::vector<uint8_t>(bytes)};
  pack(s, packed.data);
  const Aligned<int8_t> values(values_sm90(s, ActLayout::fragments_sm90));
  for (const int ctas : {1, 2, num_strips(c.n)}) {
    const bool is_spread = ctas == 2;
    SCOPED_TRACE(std::to_string(ctas) + " CTAs");
    GemmPlan plan = gemv_plan(s.problem, ctas, 1);
    plan.ctas = ctas;
    std::vector<uint8_t> d(s.want.size(), 0xff);
    if (c.output == GemmOutput::add_f32) std::memcpy(d.data(), s.d0.data(), d.size());
    GemmArgs args;
    args.a.layout = plan.act_layout();
    args.a.values = values.data;
    args.a.region1_factors = const_cast<int32_t*>(s.factors.data());
    args.a.scales = const_cast<float*>(s.scales.data());
    args.a.sums = const_cast<uint32_t*>(s.sums.data());
    args.b = {packed.data, bytes, c.n, c.k};
    args.channel_scales = s.channel_scales.data();
    args.bias = s.bias.empty() ? nullptr : s.bias.data();
    args.d = d.data();
    const GemmKernelArgs k = gemm_kernel_args(s.problem, args, unit_bytes, plan, {});
    ptx::shared_memory = shared;
    (w8 ? launch_gemv_w8a8 : launch_gemv_w4ax)(k, {ctas, nullptr, is_spread, is_spread});
    EXPECT_TRUE(equals_reference(d, s));
  }
}

TEST(GemvSimt, EqualsReference) {
  for (const GemmCase& c : {GemmCase{1, 64, 128, 0, 8, false, false, GemmOutput::f32},
                            GemmCase{3, 40, 2304, 5, 4, true, false, GemmOutput::bf16},
                            GemmCase{8, 64, 4608, 7, 4, false, true, GemmOutput::f32},
                            GemmCase{7, 270, 640, 3, 8, true, false, GemmOutput::add_f32},
                            GemmCase{9, 70, 1664, 2, 4, true, false, GemmOutput::bf16},
                            GemmCase{16, 64, 2560, 11, 4, false, true, GemmOutput::f32}}) {
    SCOPED_TRACE(std::to_string(c.m) + " tokens");
    check_case(c, false);
  }
}

TEST(GemvSimt, EqualsReferenceWithWeightsOf8Bit) {
  check_case({5, 72, 1408, 11, 8, true, false, GemmOutput::bf16}, true);
  check_case({11, 40, 1152, 9, 8, false, false, GemmOutput::f32}, true);
}

}  // namespace
}  // namespace comet::cuda
