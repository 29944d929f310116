// SPDX-License-Identifier: Apache-2.0
// Geometric means of speed-ups.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "bench/gemm/results.h"

namespace comet::gemm_bench {

// What ours is measured beside, in the order of tables.
inline constexpr std::array kKinds = {"fp16", "bf16", "fp8", "int8", "fused"};
// "cuBLAS fp16"; of fused: "RMSNorm + cuBLAS fp16".
const char* title_of(const std::string& kind);

struct Mean {
  int share4 = 0;
  std::string kind, range;  // "M 16, 64, 256"
  double mean = 0, least = 0;
  int num_points = 0;
};

// 0 for none; all are above 0.
double geometric_mean(const std::vector<double>& values);

// Distinct values of all points: shares and numbers of tokens ascending, shapes in the order in which they come.
std::vector<int> shares_of(const Results& results);
std::vector<int> tokens_of(const Results& results);
std::vector<std::string> shapes_of(const Results& results);

// Of the ranges M 2-8 (2, 4, 8), 16, 64, 256 and 512-4096 (512, 1024, 2048, 4096) that have points.
std::vector<Mean> all_means(const Results& results);

}  // namespace comet::gemm_bench
