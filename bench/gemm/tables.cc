// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm/tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "bench/gemm/summary.h"

namespace comet::gemm_bench {
namespace {

using Rows = std::vector<std::vector<std::string>>;

// The first column to the left, the others to the right.
std::string format_rows(const Rows& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string out;
  for (const auto& row : rows) {
    out += fmt::format("{:<{}}", row[0], widths[0]);
    for (size_t c = 1; c < row.size(); ++c) out += fmt::format("  {:>{}}", row[c], widths[c]);
    out += '\n';
  }
  return out;
}

struct Cell {
  double value = 0;  // 0: none
  int decimals = 2;
};
std::string text_of(const Cell& cell) {
  return cell.value > 0 ? fmt::format("{:.{}f}", cell.value, cell.decimals) : std::string("-");
}

// Shapes by M of one share; with a last row of geometric means. Empty where no cell has a value.
std::string by_shape(const Results& results, int share4, const std::string& title, bool has_means,
                     const std::function<Cell(const Point&)>& cell) {
  const std::vector<int> tokens = tokens_of(results);
  Rows rows = {{title}};
  for (const int m : tokens) rows[0].push_back(fmt::format("M {}", m));
  std::vector<std::vector<double>> columns(tokens.size());
  bool has_any = false;
  for (const std::string& shape : shapes_of(results)) {
    rows.push_back({shape});
    for (size_t c = 0; c < tokens.size(); ++c) {
      const Point* p = results.find({.shape = shape, .m = tokens[c], .share4 = share4});
      const Cell value = p != nullptr ? cell(*p) : Cell{};
      if (value.value > 0) columns[c].push_back(value.value), has_any = true;
      rows.back().push_back(text_of(value));
    }
  }
  if (!has_any) return "";
  if (has_means) {
    rows.push_back({"geometric mean"});
    for (const auto& column : columns) rows.back().push_back(text_of({geometric_mean(column)}));
  }
  return format_rows(rows) + "\n";
}

std::string format_means(const Results& results) {
  const std::vector<Mean> means = all_means(results);
  if (means.empty()) return "";
  Rows rows = {{"speed-up, geometric mean (least)"}};
  for (const Mean& mean : means)
    if (std::find(rows[0].begin(), rows[0].end(), mean.range) == rows[0].end()) rows[0].push_back(mean.range);
  for (const int share4 : shares_of(results))
    for (const char* kind : kKinds) {
      std::vector<std::string> row(rows[0].size(), "-");
      row[0] = fmt::format("4-bit {:3}%, over {}", share4, title_of(kind));
      bool has_any = false;
      for (const Mean& mean : means) {
        if (mean.share4 != share4 || mean.kind != kind) continue;
        const auto column = std::find(rows[0].begin(), rows[0].end(), mean.range) - rows[0].begin();
        row[static_cast<size_t>(column)] = fmt::format("{:.2f} ({:.2f})", mean.mean, mean.least);
        has_any = true;
      }
      if (has_any) rows.push_back(row);
    }
  return format_rows(rows);
}

}  // namespace

std::string point_line(const Results& results, const Point& p) {
  const double operations = 2.0 * p.m * p.n * p.k, weight_bytes = 65.0 / 128.0 * p.n * p.k;
  std::string out = fmt::format("{:<14} M {:4} 4-bit {:3}% {:8.2f} us {:5.0f} TOPS {:4.2f} TB/s {:4.0f} MHz", p.shape,
                                p.m, p.share4, p.us, operations / p.us / 1e6, weight_bytes / p.us / 1e6, p.mhz);
  if (const double floor = results.floor_us(p); floor > 0)
    out += fmt::format(" {:3.0f}% of roofline", 100 * floor / p.us);
  for (const char* kind : kKinds) {
    if (p.beside.count(kind) == 0) continue;
    const Beside& b = p.beside.at(kind);
    out += fmt::format(" | {} {:8.2f} x{:4.2f} ({:4.0f}, {:4.0f} MHz)", kind, b.us, b.speedup(), b.mhz, b.ours_mhz);
  }
  out += " | " + p.plan;
  for (const std::string& note : p.notes) out += "\n    " + note;
  for (const auto& plan : p.sweep)
    out += fmt::format("\n    {:8.2f} us ({:8.2f}) {}", plan.at("us").get<double>(),
                       plan.at("predicted_us").get<double>(), plan.at("plan").get<std::string>());
  return out;
}

std::string format_tables(const Results& results) {
  std::string out;
  for (const int share4 : shares_of(results)) {
    out += fmt::format("== {}, {}% of the groups of activations 4-bit ==\n\n", results.machine.gpu, share4);
    out += by_shape(results, share4, "us", false, [](const Point& p) { return Cell{p.us, p.us < 100 ? 2 : 0}; });
    for (const char* kind : kKinds)
      out += by_shape(results, share4, fmt::format("over {}", title_of(kind)), true, [&](const Point& p) {
        return p.beside.count(kind) > 0 ? Cell{p.beside.at(kind).speedup()} : Cell{};
      });
    out += by_shape(results, share4, "fraction of roofline", true,
                    [&](const Point& p) { return Cell{results.floor_us(p) / p.us}; });
    out += by_shape(results, share4, "bare stream of the weights / us", true,
                    [&](const Point& p) { return Cell{p.stream_us / p.us}; });
    out += by_shape(results, share4, "rows read, codes written + gemm over RMSNorm + cuBLAS fp16", true,
                    [](const Point& p) {
                      const bool has = p.fused_move_us > 0 && p.beside.count("fused") > 0;
                      return has ? Cell{p.beside.at("fused").us / p.fused_move_us} : Cell{};
                    });
  }
  out += format_means(results);
  if (const Machine& m = results.machine; m.copy_tb_per_s > 0)
    out += fmt::format("roofline: {:.2f} TB/s (measured copy), {:.0f} int8 TOPS\n", m.copy_tb_per_s, m.int8_tops);
  for (const LoopRate& l : results.machine.loops)
    out += fmt::format("main loop alone, {:3} tokens, {} side{}: {:5.0f} clocks a group, {:.2f} of the tensor cores\n",
                       l.tile_m, l.sides, l.sides > 1 ? "s" : "", l.clocks, l.share());
  if (results.num_wrong() > 0) out += fmt::format("WRONG outputs: {}\n", results.num_wrong());
  return out;
}

}  // namespace comet::gemm_bench
