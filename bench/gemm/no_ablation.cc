// SPDX-License-Identifier: Apache-2.0
// --ablation of programs other than comet-bench-gemm.
#include "base/check.h"
#include "bench/gemm/meter.h"

comet::api::BenchGemmResult comet::gemm_bench::measure_ablation(const api::BenchGemmOptions&,
                                                                const std::function<void(const std::string&)>&) {
  throw_unsupported(
      "--ablation needs kernels that are in the program comet-bench-gemm only, which cmake -DCOMET_CUDA=ON builds");
}
