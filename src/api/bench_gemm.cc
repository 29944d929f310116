// SPDX-License-Identifier: Apache-2.0
#include "comet/bench_gemm.h"

#include "bench/gemm/run.h"

namespace comet::api {

BenchGemmResult bench_gemm(const BenchGemmOptions& options, const std::function<void(const std::string&)>& report) {
  return gemm_bench::run(options, report, gemm_bench::make_meter);
}

}  // namespace comet::api
