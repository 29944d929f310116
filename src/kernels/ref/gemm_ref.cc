// SPDX-License-Identifier: Apache-2.0
#include "kernels/ref/ops_ref.h"

namespace comet {
namespace {

void store(const GemmProblem& p, void* d, int64_t i, float y) {
  switch (p.output) {
    case GemmOutput::bf16: static_cast<bf16*>(d)[i] = to_bf16(y); break;
    case GemmOutput::f32: static_cast<float*>(d)[i] = y; break;
    case GemmOutput::add_f32: static_cast<float*>(d)[i] = static_cast<float*>(d)[i] + y; break;
  }
}

// weight(n, k) is the 8-bit weight. Integers wrap like int32 registers; the contract keeps the result in range.
template <typename Weight>
void integer_gemm(const GemmProblem& p, const GemmArgs& args, Weight weight) {
  const int k1 = p.num_int8_groups * kGroup;
  for (int64_t t = 0; t < p.m; ++t)
    for (int64_t n = 0; n < p.n; ++n) {
      uint32_t acc1 = 0, acc2 = 0;
      for (int k = 0; k < p.k; ++k) {
        const uint32_t product = static_cast<uint32_t>(args.a.values[t * p.k + k] * weight(n, k));
        (k < k1 ? acc1 : acc2) += product;
      }
      const int32_t acc = static_cast<int32_t>(static_cast<uint32_t>(args.a.region1_factors[t]) * acc1 + acc2);
      float y = (static_cast<float>(acc) * args.a.scales[t]) * args.channel_scales[n];
      if (args.bias != nullptr) y = y + args.bias[n];
      store(p, args.d, t * p.n + n, y);
    }
}

}  // namespace

void gemm_w4ax_ref(const GemmProblem& p, const GemmArgs& args) {
  const uint8_t* codes = static_cast<const uint8_t*>(args.b.data);
  const uint8_t* params = codes + int64_t{p.n} * p.k / 2;
  integer_gemm(p, args, [&](int64_t n, int k) {
    const uint8_t group = params[n * (p.k / kGroup) + k / kGroup];
    return dequantize_w8(unpack_nibble(codes + n * (p.k / 2), k), group_scale_of(group), group_zero_of(group));
  });
}

void gemm_w8a8_ref(const GemmProblem& p, const GemmArgs& args) {
  const int8_t* codes = static_cast<const int8_t*>(args.b.data);
  integer_gemm(p, args, [&](int64_t n, int k) { return int{codes[n * p.k + k]}; });
}

void gemm_w16_ref(const GemmProblem& p, const GemmW16Args& args) {
  for (int64_t t = 0; t < p.m; ++t)
    for (int64_t n = 0; n < p.n; ++n) {
      double sum = 0.0;
      for (int64_t k = 0; k < p.k; ++k)
        sum += static_cast<double>(args.a[t * p.k + k]) *
               static_cast<double>(load_float(args.b, args.b_dtype, n * p.k + k));
      float y = static_cast<float>(sum);
      if (args.bias != nullptr) y = y + args.bias[n];
      store(p, args.d, t * p.n + n, y);
    }
}

}  // namespace comet
