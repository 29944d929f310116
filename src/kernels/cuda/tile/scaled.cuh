// SPDX-License-Identifier: Apache-2.0
// From an accumulator to an output, but for the bias.
#pragma once

#include <cstdint>

namespace comet::cuda {

// (float(acc) * sx) * s0; acc of offset weights carries 128 * osum.
template <bool kOffset128>
__device__ __forceinline__ float scaled(int32_t acc, uint32_t sum, float scale, float channel_scale) {
  const uint32_t exact = static_cast<uint32_t>(acc) - (kOffset128 ? sum * 128u : 0u);
  return __fmul_rn(__fmul_rn(__int2float_rn(static_cast<int32_t>(exact)), scale), channel_scale);
}

}  // namespace comet::cuda
