// SPDX-License-Identifier: Apache-2.0
// The benchmark: which points, what is done already, what is written when.
#pragma once

#include <functional>

#include "bench/gemm/meter.h"
#include "comet/bench_gemm.h"

namespace comet::gemm_bench {

using Report = std::function<void(const std::string&)>;
using MakeMeter = std::function<std::unique_ptr<Meter>(const api::BenchGemmOptions&)>;

// See comet/bench_gemm.h. `make_meter` is called once the options are found to be right.
api::BenchGemmResult run(const api::BenchGemmOptions& options, const Report& report, const MakeMeter& make_meter);

// The options that are not the default, paths left out: "--shapes paper --rounds 9".
std::string command_of(const api::BenchGemmOptions& options);

}  // namespace comet::gemm_bench
