// SPDX-License-Identifier: Apache-2.0
// The meter of a build without CUDA.
#include "base/check.h"
#include "bench/gemm/meter.h"

namespace comet::gemm_bench {
namespace {

[[noreturn]] void refuse() {
  throw_unsupported(
      "bench gemm measures CUDA kernels, and this program was built without them: cmake -DCOMET_CUDA=ON (--from FILE "
      "shows what was measured elsewhere)");
}

}  // namespace

std::unique_ptr<Meter> make_meter(const api::BenchGemmOptions&) { refuse(); }
void measure_quantize(const api::BenchGemmOptions&, const std::function<void(const std::string&)>&) { refuse(); }
api::BenchGemmResult measure_lm_head(const api::BenchGemmOptions&, const std::function<void(const std::string&)>&) {
  refuse();
}

}  // namespace comet::gemm_bench
