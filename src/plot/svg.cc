// SPDX-License-Identifier: Apache-2.0
// Drawing of charts.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "plot/chart.h"

namespace comet::plot {
namespace {

// Pixels of a panel, and of its margins around the plotting area.
constexpr double kWidth = 560, kHeight = 360, kLeft = 78, kRight = 22, kTop = 58, kBottom = 52;
constexpr double kLegendLine = 16;  // a legend of several lines takes height from the plotting area
constexpr double kHead = 34, kLine = 18, kCharWidth = 6.7;  // title, line of text, mean width of a 12 px letter
// Okabe and Ito's colours, which colour-blind readers can tell apart; dashes for those who print in black and white.
constexpr std::array kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"};
constexpr std::array kDashes = {"none", "7 3", "2 2", "9 3 2 3", "4 4", "1 3"};

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;  // XML has no other control characters
  }
  return out;
}

// 12,000 as "12k": labels stay short.
std::string label_of(double v) {
  if (std::abs(v) >= 1e9) return fmt::format("{:g}G", v / 1e9);
  if (std::abs(v) >= 1e6) return fmt::format("{:g}M", v / 1e6);
  if (std::abs(v) >= 1e4) return fmt::format("{:g}k", v / 1e3);
  return fmt::format("{:g}", v);
}

std::string text_at(double x, double y, const std::string& text, const char* anchor, const char* extra = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" {}>{}</text>\n", x, y, anchor, extra,
                     escape(text));
}

// Values to pixels along one direction.
struct Scale {
  double lo = 0, hi = 1, from = 0, to = 1;
  bool is_log = false;

  bool shows(double v) const { return std::isfinite(v) && (!is_log || v > 0); }
  double operator()(double v) const {
    const double share = is_log ? std::log(v / lo) / std::log(hi / lo) : (v - lo) / (hi - lo);
    return from + share * (to - from);
  }
};

Scale fit(const Axis& axis, const std::vector<const std::vector<double>*>& data, double from, double to) {
  Scale s{.from = from, .to = to, .is_log = axis.is_log};
  double lo = std::numeric_limits<double>::infinity(), hi = -lo;
  const auto take = [&](double v) {
    if (s.shows(v)) lo = std::min(lo, v), hi = std::max(hi, v);
  };
  for (const auto* values : data)
    for (const double v : *values) take(v);
  for (const double v : axis.ticks) take(v);
  if (lo > hi) lo = hi = 1;
  if (axis.has_zero && !s.is_log) lo = std::min(lo, 0.0), hi = std::max(hi, 0.0);
  if (hi <= lo) {  // one value only: in the middle
    const double around = lo == 0 ? 1 : std::abs(lo) / 2;
    lo -= around, hi += around;
  } else if (axis.ticks.empty()) {
    s.is_log ? hi *= 1.05 : hi += (hi - lo) / 25;
  }
  s.lo = lo, s.hi = hi;
  return s;
}

class Panel {
 public:
  Panel(const Chart& chart, double x, double y) : chart_(chart) {
    const double left = x + kLeft, right = x + kWidth - kRight, top = y + kTop, bottom = y + kHeight - kBottom;
    std::vector<const std::vector<double>*> xs, ys;
    for (const Series& s : chart.series) {
      if (chart.form == Form::bar)
        COMET_CHECK_EQ(s.y.size(), chart.categories.size());
      else
        COMET_CHECK_EQ(s.x.size(), s.y.size());
      xs.push_back(&s.x), ys.push_back(&s.y);
    }
    place_legend(left, right, top - 14);
    const double legend_height = legend_.empty() ? 0 : legend_.back().y - legend_.front().y;
    title_y_ = top - kTop + 20;
    x_ = fit(chart.x, xs, left, right);
    y_ = fit(chart.y, ys, bottom, top + legend_height);
    if (chart.form == Form::bar)
      x_ = {.lo = 0, .hi = static_cast<double>(chart.categories.size()), .from = left, .to = right};
  }

  std::string draw() const {
    std::string out = axes() + legend();
    bool has_data = false;
    for (size_t i = 0; i < chart_.series.size(); ++i) {
      const std::string shape = chart_.form == Form::bar ? bars(i) : path(i);
      has_data = has_data || !shape.empty();
      out += shape;
    }
    if (!has_data) out += text_at((x_.from + x_.to) / 2, (y_.from + y_.to) / 2, "no data", "middle", "class=\"s\"");
    return out;
  }

 private:
  std::string axes() const {
    std::string out = text_at((x_.from + x_.to) / 2, title_y_, chart_.title, "middle", "class=\"t\"");
    out += text_at((x_.from + x_.to) / 2, y_.from + 42, chart_.x.label, "middle");
    const double label_x = x_.from - 58, label_y = (y_.from + y_.to) / 2;
    const std::string turned = fmt::format("transform=\"rotate(-90 {:.1f} {:.1f})\"", label_x, label_y);
    out += text_at(label_x, label_y, chart_.y.label, "middle", turned.c_str());
    const auto line = [&](double x1, double y1, double x2, double y2, const char* kind) {
      out += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>\n", x1, y1, x2,
                         y2, kind);
    };
    for (const double t : chart_.y.ticks.empty() ? choose_ticks(y_.lo, y_.hi, y_.is_log) : chart_.y.ticks) {
      line(x_.from, y_(t), x_.to, y_(t), "g");
      out += text_at(x_.from - 7, y_(t) + 4, label_of(t), "end");
    }
    if (chart_.form == Form::bar) {
      for (size_t c = 0; c < chart_.categories.size(); ++c)
        out += text_at(x_(static_cast<double>(c) + 0.5), y_.from + 18, chart_.categories[c], "middle");
    } else {
      for (const double t : chart_.x.ticks.empty() ? choose_ticks(x_.lo, x_.hi, x_.is_log) : chart_.x.ticks) {
        line(x_(t), y_.from, x_(t), y_.to, "g");
        out += text_at(x_(t), y_.from + 18, label_of(t), "middle");
      }
    }
    line(x_.from, y_.from, x_.to, y_.from, "a");
    line(x_.from, y_.from, x_.from, y_.to, "a");
    return out;
  }

  // Entries from left to right, in as many lines as they take.
  void place_legend(double left, double right, double y) {
    if (chart_.series.size() < 2) return;
    double x = left;
    for (const Series& s : chart_.series) {
      const double width = 30 + kCharWidth * static_cast<double>(s.name.size()) + 18;
      if (x > left && x + width - 18 > right) x = left, y += kLegendLine;
      legend_.push_back({x, y});
      x += width;
    }
  }

  std::string legend() const {
    std::string out;
    for (size_t i = 0; i < legend_.size(); ++i) {
      const auto [x, y] = legend_[i];
      out += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" {}/>\n", x, y,
                         x + 24, y, colour(i), chart_.form == Form::bar ? "stroke-width=\"10\"" : stroke_style(i));
      out += text_at(x + 30, y + 4, chart_.series[i].name, "start");
    }
    return out;
  }

  const char* colour(size_t i) const { return chart_.series[i].is_emphasized ? "#222" : kColours[i % kColours.size()]; }

  // The dashes move on by one with every round of the colours, so that 36 lines differ.
  std::string stroke_style(size_t i) const {
    if (chart_.series[i].is_emphasized) return "stroke-width=\"4\"";
    return fmt::format("stroke-width=\"2\" stroke-dasharray=\"{}\"",
                       kDashes[(i + i / kColours.size()) % kDashes.size()]);
  }

  std::string path(size_t i) const {
    const Series& s = chart_.series[i];
    std::string d;
    double last_y = 0;
    for (size_t p = 0; p < s.x.size(); ++p) {
      if (!x_.shows(s.x[p]) || !y_.shows(s.y[p])) continue;
      const double x = x_(s.x[p]), y = y_(s.y[p]);
      if (!d.empty() && chart_.form == Form::step) d += fmt::format("L{:.1f} {:.1f}", x, last_y);
      d += fmt::format("{}{:.1f} {:.1f}", d.empty() ? 'M' : 'L', x, y);
      last_y = y;
    }
    if (d.empty()) return d;
    return fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\" {}/>\n", d, colour(i), stroke_style(i));
  }

  std::string bars(size_t i) const {
    std::string out;
    const Series& s = chart_.series[i];
    const double width = 0.8 / static_cast<double>(chart_.series.size());
    for (size_t c = 0; c < s.y.size(); ++c) {
      if (!y_.shows(s.y[c])) continue;
      const double x = x_(static_cast<double>(c) + 0.1 + width * static_cast<double>(i)), y = y_(s.y[c]);
      const double foot = y_.is_log || y_.lo > 0 ? y_.from : y_(0);
      out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>\n", x,
                         std::min(y, foot), width * (x_(1) - x_(0)), std::abs(foot - y), colour(i));
    }
    return out;
  }

  struct Place {
    double x, y;
  };

  const Chart& chart_;
  Scale x_, y_;
  double title_y_ = 0;
  std::vector<Place> legend_;
};

}  // namespace

std::string to_svg(const std::string& title, std::span<const std::string> lines, std::span<const Chart> charts,
                   int columns) {
  COMET_CHECK(columns >= 1);
  const size_t width_in_panels = std::min(static_cast<size_t>(columns), std::max<size_t>(charts.size(), 1));
  const size_t rows = (charts.size() + width_in_panels - 1) / width_in_panels;
  const double head = kHead + kLine * static_cast<double>(lines.size()) + 8;
  const double width = kWidth * static_cast<double>(width_in_panels),
               height = head + kHeight * static_cast<double>(rows);
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
      "font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#222\">\n"
      "<style>.h{{font-size:18px;font-weight:bold}}.t{{font-size:14px;font-weight:bold}}.s{{fill:#666}}"
      ".g{{stroke:#ddd}}.a{{stroke:#222}}</style>\n<title>{2}</title>\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
      width, height, escape(title));
  out += text_at(20, 26, title, "start", "class=\"h\"");
  for (size_t i = 0; i < lines.size(); ++i)
    out += text_at(20, kHead + kLine * static_cast<double>(i + 1) - 6, lines[i], "start", "class=\"s\"");
  for (size_t i = 0; i < charts.size(); ++i)
    out += Panel(charts[i], kWidth * static_cast<double>(i % width_in_panels),
                 head + kHeight * static_cast<double>(i / width_in_panels))
               .draw();
  return out + "</svg>\n";
}

}  // namespace comet::plot
