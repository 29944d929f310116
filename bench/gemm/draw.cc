// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm/draw.h"

#include <fmt/format.h>

#include <algorithm>

#include "bench/gemm/shapes.h"
#include "bench/gemm/summary.h"
#include "plot/chart.h"

namespace comet::gemm_bench {
namespace {

constexpr size_t kMostShapes = 8;  // lines that can still be told apart

// Geometric mean by M of the points whose line (by `line_of`) is `name`.
template <typename LineOf>
plot::Series mean_series(const Results& results, int share4, const char* kind, const std::string& name,
                         const LineOf& line_of) {
  plot::Series series{.name = name};
  for (const int m : tokens_of(results)) {
    std::vector<double> values;
    for (const Point& p : results.points)
      if (p.share4 == share4 && p.m == m && p.beside.count(kind) > 0 && line_of(p) == name)
        values.push_back(p.beside.at(kind).speedup());
    if (values.empty()) continue;
    series.x.push_back(m);
    series.y.push_back(geometric_mean(values));
  }
  return series;
}

plot::Chart speedup_chart(const Results& results, int share4, const char* kind) {
  const std::vector<std::string> shapes = shapes_of(results);
  const bool by_family = shapes.size() > kMostShapes;
  const auto line_of = [&](const Point& p) { return by_family ? family_of(p.shape) : p.shape; };
  std::vector<std::string> lines;
  for (const std::string& shape : shapes) {
    const std::string line = by_family ? family_of(shape) : shape;
    if (std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(line);
  }
  const bool is_fused = std::string_view(kind) == "fused";
  const char* title = is_fused ? "with RMSNorm, over RMSNorm + cuBLAS fp16" : "gemm_w4ax over cuBLAS fp16";
  plot::Chart chart{.title = fmt::format("{}, {}% 4-bit", title, share4),
                    .x = {.label = "M (tokens)", .is_log = true},
                    .y = {.label = "times as fast", .has_zero = true}};
  for (const int m : tokens_of(results)) chart.x.ticks.push_back(m);
  for (const std::string& line : lines) chart.series.push_back(mean_series(results, share4, kind, line, line_of));
  std::erase_if(chart.series, [](const plot::Series& s) { return s.x.empty(); });
  if (chart.series.size() > 1) {
    chart.series.push_back(
        mean_series(results, share4, kind, "geometric mean", [](const Point&) { return "geometric mean"; }));
    chart.series.back().is_emphasized = true;
  }
  return chart;
}

}  // namespace

std::string draw(const Results& results) {
  std::vector<plot::Chart> charts;
  for (const int share4 : shares_of(results))
    for (const char* kind : {"fp16", "fused"})
      if (plot::Chart chart = speedup_chart(results, share4, kind); !chart.series.empty())
        charts.push_back(std::move(chart));
  std::vector<std::string> lines = {results.machine.gpu};
  for (const Mean& mean : all_means(results))
    if (mean.kind == "fp16" || mean.kind == "fused") {
      const std::string begin = fmt::format("{}% 4-bit, over {}: ", mean.share4, title_of(mean.kind));
      const std::string text = fmt::format("{:.2f} ({})", mean.mean, mean.range);
      if (lines.back().starts_with(begin))
        lines.back() += "; " + text;
      else
        lines.push_back(begin + text);
    }
  return plot::to_svg("comet bench gemm", lines, charts);
}

}  // namespace comet::gemm_bench
