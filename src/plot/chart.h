// SPDX-License-Identifier: Apache-2.0
// Charts as one self-contained SVG: lines, steps (CDFs) and bars with axes, units and a legend.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace comet::plot {

struct Axis {
  std::string label{};  // with its unit: "TTFT (ms)"
  bool is_log = false;
  bool has_zero = false;        // linear axes: begin at 0, or below
  std::vector<double> ticks{};  // empty: chosen
};

struct Series {
  std::string name{};
  std::vector<double> x{}, y{};  // of equal length; points that are not finite, or <= 0 on a log axis, are left out
  bool is_emphasized = false;    // lines: thick and black
};

enum class Form { line, step, bar };

// Bars: `categories` stand along x; each series has one y for each of them and no x.
struct Chart {
  std::string title{};
  Axis x{}, y{};
  Form form = Form::line;
  std::vector<Series> series{};
  std::vector<std::string> categories{};
};

// The share of values <= x, as steps; of many values, about max_points quantiles, the largest value among them.
Series cdf(std::string name, std::vector<double> values, size_t max_points = 400);

// Ascending round numbers, about `count` of them, that lie in lo..hi (which must be finite and lo < hi); on a log axis
// (lo > 0) powers of ten and, where these are few, their doubles and quintuples.
std::vector<double> choose_ticks(double lo, double hi, bool is_log, int count = 6);

// The charts from left to right in rows of `columns`, under a title and lines of text.
std::string to_svg(const std::string& title, std::span<const std::string> lines, std::span<const Chart> charts,
                   int columns = 2);

}  // namespace comet::plot
