// SPDX-License-Identifier: Apache-2.0
// CDFs, ticks and where SVG shapes come to stand.
#include <gmock/gmock.h>

#include <limits>
#include <regex>
#include <set>

#include "base/check.h"
#include "plot/chart.h"

namespace comet::plot {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

// The points of all paths, in order.
std::vector<std::vector<double>> paths(const std::string& svg) {
  std::vector<std::vector<double>> out;
  const std::regex path("<path d=\"([^\"]*)\""), number("[0-9.]+");
  for (std::sregex_iterator p(svg.begin(), svg.end(), path), end; p != end; ++p) {
    const std::string d = (*p)[1];
    out.emplace_back();
    for (std::sregex_iterator n(d.begin(), d.end(), number), last; n != last; ++n)
      out.back().push_back(std::stod(n->str()));
  }
  return out;
}

TEST(Plot, CdfIsTheShareOfValuesUpToX) {
  const Series s = cdf("a", {3, 1, 2, 2, std::numeric_limits<double>::quiet_NaN()});
  EXPECT_THAT(s.x, ElementsAre(1, 1, 2, 2, 3));
  EXPECT_THAT(s.y, ElementsAre(0, 0.25, 0.5, 0.75, 1));
  EXPECT_TRUE(cdf("none", {}).x.empty());
}

TEST(Plot, CdfOfManyValuesKeepsEndsAndQuantiles) {
  std::vector<double> values;
  for (int i = 1; i <= 10000; ++i) values.push_back(i);
  const Series s = cdf("a", values, 100);
  ASSERT_EQ(s.x.size(), 101u);
  EXPECT_EQ(s.x.front(), 1);
  EXPECT_EQ(s.x[50], 5000);
  EXPECT_EQ(s.y[50], 0.5);
  EXPECT_EQ(s.x.back(), 10000);
  EXPECT_EQ(s.y.back(), 1);
}

TEST(Plot, TicksAreRoundAndInside) {
  EXPECT_THAT(choose_ticks(0, 10, false, 5), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(choose_ticks(-3, 3, false, 6), ElementsAre(-3, -2, -1, 0, 1, 2, 3));
  EXPECT_THAT(choose_ticks(1, 100, true), ElementsAre(1, 2, 5, 10, 20, 50, 100));
  EXPECT_THAT(choose_ticks(1e-3, 1e3, true), ElementsAre(1e-3, 1e-2, 1e-1, 1, 10, 100, 1000));
  EXPECT_GE(choose_ticks(101, 109, true).size(), 2u);  // within one decade
  EXPECT_THROW(choose_ticks(1, 1, false), Error);
  EXPECT_THROW(choose_ticks(0, 1, true), Error);
}

TEST(Plot, LinesRunFromTheLowerLeftToTheUpperRight) {
  const Chart chart{.title = "t", .x = {.label = "time (s)"}, .y = {.label = "v"}, .series = {{"a", {0, 1}, {0, 1}}}};
  const auto all = paths(to_svg("all", {}, std::vector{chart}));
  ASSERT_EQ(all.size(), 1u);
  ASSERT_EQ(all[0].size(), 4u);  // x y x y
  EXPECT_LT(all[0][0], all[0][2]);
  EXPECT_GT(all[0][1], all[0][3]);  // y grows downwards in SVG
}

TEST(Plot, StepsTurnAtRightAngles) {
  const Chart chart{
      .title = "t", .x = {.label = "x"}, .y = {.label = "y"}, .form = Form::step, .series = {{"a", {0, 1}, {0, 1}}}};
  const auto all = paths(to_svg("all", {}, std::vector{chart}));
  ASSERT_EQ(all.at(0).size(), 6u);
  EXPECT_EQ(all[0][1], all[0][3]);  // first along x,
  EXPECT_EQ(all[0][2], all[0][4]);  // then along y
}

TEST(Plot, LogAxisSpacesDecadesEvenlyAndLeavesOutZero) {
  const Chart chart{.title = "t",
                    .x = {.label = "x", .is_log = true},
                    .y = {.label = "y"},
                    .series = {{"a", {0, 1, 10, 100}, {5, 1, 2, 3}}}};
  const auto all = paths(to_svg("all", {}, std::vector{chart}));
  ASSERT_EQ(all.at(0).size(), 6u);
  EXPECT_NEAR(all[0][2] - all[0][0], all[0][4] - all[0][2], 0.2);
}

TEST(Plot, BarsOfAllSeriesStandBesideEachOther) {
  const Chart chart{.title = "t",
                    .x = {.label = ""},
                    .y = {.label = "tok/s", .has_zero = true},
                    .form = Form::bar,
                    .series = {{"a", {}, {1, 2}}, {"b", {}, {3, 4}}},
                    .categories = {"one", "two"}};
  const std::string svg = to_svg("all", {}, std::vector{chart});
  EXPECT_EQ(count(svg, "<rect x="), 4u);
  EXPECT_THAT(svg, HasSubstr(">two</text>"));
  const Chart broken{.title = "t", .form = Form::bar, .series = {{"a", {}, {1}}}, .categories = {"one", "two"}};
  EXPECT_THROW(to_svg("all", {}, std::vector{broken}), Error);
}

TEST(Plot, LabelsLegendAndEscapes) {
  const Chart chart{.title = "TTFT & <more>",
                    .x = {.label = "time (s)"},
                    .y = {.label = "tokens/s"},
                    .series = {{"p50", {1}, {1}}, {"p99", {1}, {2}}}};
  const std::vector<std::string> lines = {"model \"a\""};
  const std::string svg = to_svg("all", lines, std::vector{chart, chart, chart});
  EXPECT_THAT(svg, HasSubstr("TTFT &amp; &lt;more&gt;"));
  EXPECT_THAT(svg, HasSubstr("model &quot;a&quot;"));
  EXPECT_THAT(svg, Not(HasSubstr("<more>")));
  EXPECT_EQ(count(svg, ">time (s)</text>"), 3u);
  EXPECT_EQ(count(svg, ">p99</text>"), 3u);
  EXPECT_EQ(count(svg, "nan"), 0u);
  EXPECT_EQ(count(svg, "inf"), 0u);
}

TEST(Plot, ALongLegendTakesLines) {
  Chart chart{.title = "t", .x = {.label = "x"}, .y = {.label = "y"}};
  for (int i = 0; i < 13; ++i)
    chart.series.push_back({.name = "series " + std::to_string(i), .x = {0, 1}, .y = {0, 1}});
  const std::string svg = to_svg("all", {}, std::vector{chart});
  const std::regex entry("<text x=\"([0-9.]+)\" y=\"([0-9.]+)\"[^>]*>series ([0-9]+)<");
  std::set<double> lines;
  for (std::sregex_iterator e(svg.begin(), svg.end(), entry), last; e != last; ++e) {
    lines.insert(std::stod((*e)[2]));
    EXPECT_LT(std::stod((*e)[1]), 560 - 60);
  }
  EXPECT_GT(lines.size(), 2u);
  const auto all = paths(svg);
  ASSERT_EQ(all.size(), 13u);
  EXPECT_GT(all[0][3], *lines.rbegin());  // the plotting area begins below
  std::set<std::string> styles;
  const std::regex style("<path [^>]*(stroke=.*)/>");
  for (std::sregex_iterator s(svg.begin(), svg.end(), style), last; s != last; ++s) styles.insert((*s)[1]);
  EXPECT_EQ(styles.size(), 13u);
}

TEST(Plot, AnEmphasizedLineIsThickAndBlack) {
  const Chart chart{.title = "t",
                    .x = {.label = "x"},
                    .y = {.label = "y"},
                    .series = {{"a", {0, 1}, {0, 1}}, {"b", {0, 1}, {0, 1}, true}}};
  EXPECT_EQ(count(to_svg("all", {}, std::vector{chart}), "stroke=\"#222\" stroke-width=\"4\""), 2u);  // legend, line
}

TEST(Plot, AnEmptyChartSaysSo) {
  const Chart chart{.title = "t", .x = {.label = "x", .is_log = true}, .y = {.label = "y"}, .series = {{"a", {}, {}}}};
  EXPECT_THAT(to_svg("all", {}, std::vector{chart}), HasSubstr("no data"));
}

}  // namespace
}  // namespace comet::plot
