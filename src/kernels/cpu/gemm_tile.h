// SPDX-License-Identifier: Apache-2.0
// What the integer GEMM kernels compute in one call: one panel of weights against one tile of tokens. POD only.
#pragma once

#include "kernels/cpu/packed_weights.h"
#include "kernels/gemm.h"

namespace comet {

struct GemmTile {
  int k = 0, num_int8_groups = 0;
  const uint8_t* panel = nullptr;            // packed_weights.h
  const int8_t* values = nullptr;            // [k/4, tokens, 4]: dwords of four consecutive k
  const int16_t* value_sums = nullptr;       // [k/128, tokens]: sum of the group's values (m * asum)
  const int32_t* region1_factors = nullptr;  // [tokens]
  const float* scales = nullptr;             // [tokens]
  const uint32_t* sums = nullptr;            // [tokens]: osum
  const float* channel_scales = nullptr;     // [num_channels], the panel's
  const float* bias = nullptr;               // [num_channels] or null
  int num_channels = 0;                      // 1..16
  GemmOutput output = GemmOutput::bf16;
  void* d = nullptr;     // [tokens, d_stride], at the panel's first channel
  int64_t d_stride = 0;  // elements
};

using GemmTileFn = void (*)(const GemmTile&);

// Entry t - 1 computes a tile of t tokens.
namespace avx2 {
constexpr int kMaxTokens = 4;
extern const GemmTileFn kGemmW4ax[kMaxTokens];
extern const GemmTileFn kGemmW8a8[kMaxTokens];
}  // namespace avx2
namespace avx512vnni {
constexpr int kMaxTokens = 12;
extern const GemmTileFn kGemmW4ax[kMaxTokens];
extern const GemmTileFn kGemmW8a8[kMaxTokens];
}  // namespace avx512vnni

}  // namespace comet
