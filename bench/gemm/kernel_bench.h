// SPDX-License-Identifier: Apache-2.0
// What benchmarks beside the points have in common: the GPU, and figures under a head that says where they come from.
#pragma once

#include <functional>
#include <memory>

#include "bench/gemm/replay.h"
#include "bench/gemm/results.h"
#include "comet/bench_gemm.h"

namespace comet::cuda {

using Report = std::function<void(const std::string&)>;

class KernelBench {
 protected:
  // Throws Unsupported, see open_hopper.
  KernelBench(const api::BenchGemmOptions& options, const Report& report);
  // The figures so far under the name of --json, if there is one.
  void save() const;

  api::BenchGemmOptions options_;
  Report report_;
  int sms_ = 0;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<ReplayTimer> timer_;
  nlohmann::json result_;
};

}  // namespace comet::cuda
