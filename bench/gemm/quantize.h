// SPDX-License-Identifier: Apache-2.0
// comet-bench-gemm --quantize: quantize_act_ax_sm90 beside a copy of as many bytes, beside an empty kernel and beside
// quantize_act_ax_sm80 from its PTX.
#pragma once

#include <string>
#include <vector>

namespace comet::cuda {

struct QuantizeBenchOptions {
  std::vector<int> ms;
  int rounds = 9;
  double replay_us = 2500.0;
  bool sweep = false;  // other plans, too
  std::string json;
};

void run_quantize_bench(const QuantizeBenchOptions& options);

}  // namespace comet::cuda
