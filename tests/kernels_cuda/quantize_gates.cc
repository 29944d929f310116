// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/quantize_gates.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "bench/gemm/device_array.h"
#include "quant/fp32.h"

namespace comet::cuda {

// A row of one gate each, so that the scale shows the last bit of silu(gate) * up but where the division by L hides it;
// three factors hide it at different places.
void check_every_gate(void (*quantize)(const QuantizeActProblem&, const QuantizeActArgs&, cudaStream_t),
                      ActLayout layout, int8_t* values, uint8_t* multipliers) {
  constexpr int kIn = kGroup;
  for (const float up : {1.0f, 1.40625f, 1.859375f}) {
    std::vector<bf16> x(static_cast<size_t>(kGates) * 2 * kIn);
    for (int t = 0; t < kGates; ++t) {
      x[static_cast<size_t>(t) * 2 * kIn + t % kIn].bits = static_cast<uint16_t>(t);
      x[static_cast<size_t>(t) * 2 * kIn + kIn + t % kIn] = to_bf16(up);
    }
    const DeviceArray<bf16> device_x(x);
    const DeviceArray<float> scales(kGates);
    const DeviceArray<int32_t> factors(kGates);
    const DeviceArray<uint32_t> sums(kGates), errors(kGates);
    QuantizeActArgs args;
    args.x = device_x.data();
    args.out = {layout, values, multipliers, nullptr, factors.data(), scales.data(), sums.data()};
    args.row_errors = errors.data();
    args.error_tag = 1;
    quantize({kGates, {kIn, kIn, 0, 8, false, 1.0f, 1.0f}, ActSource::silu_mul}, args, nullptr);
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
    const auto got = scales.to_host();
    const auto bad = errors.to_host();
    int wrong = 0;
    for (int t = 0; t < kGates; ++t) {
      const float v = silu(to_float(x[static_cast<size_t>(t) * 2 * kIn + t % kIn])) * up;
      const float want = is_finite(v) ? token_scales(0.0f, std::fabs(v), 1.0f, 1.0f, 127, 1).sx : 0.0f;
      wrong += got[t] != want || (bad[t] != 0) != !is_finite(v);
    }
    EXPECT_EQ(wrong, 0) << "up " << up;
  }
}

}  // namespace comet::cuda
