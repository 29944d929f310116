// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/gemm_w16_run.h"

#include <algorithm>

namespace comet {

void run_gemm_w16(GemmW16Fn kernel, const GemmProblem& p, const GemmW16Args& args, ThreadPool& pool) {
  const int blocks = (p.n + kW16Channels - 1) / kW16Channels, parts = (p.m + kW16Tokens - 1) / kW16Tokens;
  // All tokens of a block of channels one after another: its weights stay in the caches.
  pool.parallel_for(int64_t{blocks} * parts, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int channel = static_cast<int>(i / parts) * kW16Channels, token = static_cast<int>(i % parts) * kW16Tokens;
      kernel({.problem = p,
              .args = args,
              .token = token,
              .num_tokens = std::min(kW16Tokens, p.m - token),
              .channel = channel,
              .num_channels = std::min(kW16Channels, p.n - channel)});
    }
  });
}

}  // namespace comet
