// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm/summary.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace comet::gemm_bench {
namespace {

struct Range {
  const char* name;
  std::vector<int> tokens;
};
const std::vector<Range>& ranges() {
  static const std::vector<Range> all = {
      {"M 2-8", {2, 4, 8}}, {"M 16, 64, 256", {16, 64, 256}}, {"M 512-4096", {512, 1024, 2048, 4096}}};
  return all;
}

}  // namespace

const char* title_of(const std::string& kind) {
  if (kind == "fp16") return "cuBLAS fp16";
  if (kind == "bf16") return "cuBLAS bf16";
  if (kind == "fp8") return "cuBLASLt fp8";
  return kind == "int8" ? "cuBLASLt int8" : "RMSNorm + cuBLAS fp16";
}

double geometric_mean(const std::vector<double>& values) {
  if (values.empty()) return 0;
  double sum = 0;
  for (const double v : values) sum += std::log(v);
  return std::exp(sum / static_cast<double>(values.size()));
}

std::vector<int> shares_of(const Results& results) {
  std::set<int> all;
  for (const Point& p : results.points) all.insert(p.share4);
  return {all.begin(), all.end()};
}

std::vector<int> tokens_of(const Results& results) {
  std::set<int> all;
  for (const Point& p : results.points) all.insert(p.m);
  return {all.begin(), all.end()};
}

std::vector<std::string> shapes_of(const Results& results) {
  std::vector<std::string> all;
  for (const Point& p : results.points)
    if (std::find(all.begin(), all.end(), p.shape) == all.end()) all.push_back(p.shape);
  return all;
}

std::vector<Mean> all_means(const Results& results) {
  std::vector<Mean> means;
  for (const int share4 : shares_of(results))
    for (const char* kind : kKinds)
      for (const Range& range : ranges()) {
        std::vector<double> values;
        for (const Point& p : results.points)
          if (p.share4 == share4 && p.beside.count(kind) > 0 &&
              std::find(range.tokens.begin(), range.tokens.end(), p.m) != range.tokens.end())
            values.push_back(p.beside.at(kind).speedup());
        if (values.empty()) continue;
        means.push_back({share4, kind, range.name, geometric_mean(values),
                         *std::min_element(values.begin(), values.end()), static_cast<int>(values.size())});
      }
  return means;
}

}  // namespace comet::gemm_bench
