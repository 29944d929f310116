// SPDX-License-Identifier: Apache-2.0
// What one call of a w16 kernel computes: some output channels for some tokens. POD only.
#pragma once

#include "kernels/gemm.h"

namespace comet {

// The sum of one output element, whatever m, the tile and the threads: k in blocks of 512; in a block lane l of the
// kernel's vectors is one fma chain over k = l, l + lanes, ..; a halving tree over the lanes; blocks added in order.
constexpr int kW16Block = 512;

// Largest part of one call: the tokens' activations stay in L2.
constexpr int kW16Channels = 48;
constexpr int kW16Tokens = 24;

struct W16Task {
  GemmProblem problem;
  GemmW16Args args;
  int token = 0, num_tokens = 0;      // num_tokens <= kW16Tokens
  int channel = 0, num_channels = 0;  // num_channels <= kW16Channels
};

using GemmW16Fn = void (*)(const W16Task&);

namespace avx2 {
void gemm_w16(const W16Task& task);
}
namespace avx512vnni {
void gemm_w16(const W16Task& task);
}

}  // namespace comet
