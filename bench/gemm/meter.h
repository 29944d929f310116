// SPDX-License-Identifier: Apache-2.0
// What measures a point; a fake one in tests.
#pragma once

#include <memory>

#include "bench/gemm/results.h"
#include "bench/gemm/shapes.h"
#include "comet/bench_gemm.h"

namespace comet::gemm_bench {

class Meter {
 public:
  virtual ~Meter() = default;
  virtual const Machine& machine() const = 0;
  // Keeps the weights of a shape until another one is asked for.
  virtual Point measure(const Shape& shape, int m, int share4) = 0;
};

// On GPU 0. Throws Unsupported, naming what is missing, without CUDA in the build, a driver, Hopper or cuBLAS.
std::unique_ptr<Meter> make_meter(const api::BenchGemmOptions& options);
// quantize_act alone, and its JSON.
void measure_quantize(const api::BenchGemmOptions& options, const std::function<void(const std::string&)>& report);
// gemm_w8a8 on lm_head's shapes, and its JSON.
api::BenchGemmResult measure_lm_head(const api::BenchGemmOptions& options,
                                     const std::function<void(const std::string&)>& report);
// The GEMM with one thing taken out at a time, and its JSON. Only the program comet-bench-gemm of a build with CUDA has
// these kernels (its ablation.cc goes before no_ablation.cc of the library), elsewhere it throws Unsupported.
api::BenchGemmResult measure_ablation(const api::BenchGemmOptions& options,
                                      const std::function<void(const std::string&)>& report);

}  // namespace comet::gemm_bench
