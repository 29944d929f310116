// SPDX-License-Identifier: Apache-2.0
// Results as an SVG.
#pragma once

#include <string>

#include "bench/gemm/results.h"

namespace comet::gemm_bench {

// A chart for each 4-bit share and each of cuBLAS fp16 and RMSNorm + cuBLAS fp16: speed-up by M, a line a shape (of
// more than eight shapes: a line a family, its geometric mean) and the geometric mean of all.
std::string draw(const Results& results);

}  // namespace comet::gemm_bench
