// SPDX-License-Identifier: Apache-2.0
#include "loadgen/statistics.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace comet::loadgen {

double percentile(std::span<const double> ascending, double p) {
  if (ascending.empty()) return 0;
  const double place = std::clamp(p, 0.0, 100.0) / 100 * static_cast<double>(ascending.size() - 1);
  const size_t below = static_cast<size_t>(place), above = std::min(below + 1, ascending.size() - 1);
  return ascending[below] + (ascending[above] - ascending[below]) * (place - static_cast<double>(below));
}

api::BenchDistribution summarize(std::vector<double> values, std::span<const double> percentiles) {
  api::BenchDistribution d;
  d.count = values.size();
  std::sort(values.begin(), values.end());
  if (!values.empty()) {
    d.mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
    d.median = percentile(values, 50);
    d.max = values.back();
  }
  for (const double p : percentiles) d.percentiles.emplace_back(p, percentile(values, p));
  return d;
}

void check_goodput(const std::map<std::string, double>& limits_ms) {
  for (const auto& [name, most] : limits_ms) {
    if (name != "ttft" && name != "tpot" && name != "e2el")
      throw_invalid("--goodput {}: expected ttft, tpot or e2el", name);
    if (!(most > 0)) throw_invalid("--goodput {}:{}: expected milliseconds above 0", name, most);
  }
}

bool is_good(const RequestRecord& record, const std::map<std::string, double>& limits_ms) {
  for (const auto& [name, most] : limits_ms) {
    const double s = name == "ttft" ? record.ttft_s() : name == "tpot" ? record.tpot_s() : record.e2el_s();
    if (s * 1000 > most) return false;
  }
  return true;
}

}  // namespace comet::loadgen
