// SPDX-License-Identifier: Apache-2.0
// Chart data: CDFs and ticks.
#include "plot/chart.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace comet::plot {

Series cdf(std::string name, std::vector<double> values, size_t max_points) {
  COMET_CHECK(max_points >= 2);
  std::erase_if(values, [](double v) { return !std::isfinite(v); });
  std::sort(values.begin(), values.end());
  Series out{.name = std::move(name), .x = {}, .y = {}};
  if (values.empty()) return out;
  out.x.push_back(values.front());
  out.y.push_back(0.0);
  const size_t n = values.size(), num_points = std::min(n, max_points);
  for (size_t p = 1; p <= num_points; ++p) {
    const size_t rank = (p * n + num_points - 1) / num_points;  // 1..n; the last one is n
    out.x.push_back(values[rank - 1]);
    out.y.push_back(static_cast<double>(rank) / static_cast<double>(n));
  }
  return out;
}

std::vector<double> choose_ticks(double lo, double hi, bool is_log, int count) {
  COMET_CHECK(std::isfinite(lo) && std::isfinite(hi) && lo < hi && (!is_log || lo > 0), "{}..{}", lo, hi);
  std::vector<double> ticks;
  if (is_log) {
    const double decades = std::log10(hi / lo);
    const std::vector<double> steps = decades > 4 ? std::vector{1.0} : std::vector{1.0, 2.0, 5.0};
    const int first = static_cast<int>(std::floor(std::log10(lo))), last = static_cast<int>(std::ceil(std::log10(hi)));
    const int stride = std::max(1, static_cast<int>(decades / count));
    for (int e = first; e <= last; e += stride)
      for (const double s : steps)
        if (const double t = s * std::pow(10.0, e); t >= lo && t <= hi) ticks.push_back(t);
    if (ticks.size() >= 2) return ticks;
    ticks.clear();  // less than a step of the log grid: linear ticks do
  }
  const double raw = (hi - lo) / count, power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = power;
  for (const double s : {1.0, 2.0, 5.0, 10.0})
    if (step = s * power; step >= raw) break;
  for (double k = std::ceil(lo / step - 1e-9); k * step <= hi + 1e-9 * step; k += 1)
    ticks.push_back(k == 0 ? 0.0 : k * step);
  return ticks;
}

}  // namespace comet::plot
