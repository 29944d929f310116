// SPDX-License-Identifier: Apache-2.0
// Files of results: there and back, files of others, what may be continued and merged; means, tables and plot.
#include "bench/gemm/results.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "base/check.h"
#include "bench/gemm/draw.h"
#include "bench/gemm/summary.h"
#include "bench/gemm/tables.h"
#include "points.h"

namespace comet::gemm_bench {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

Results small() {
  Results r{.machine = test_machine(), .settings = {{"rounds", 7}}, .commands = {"comet bench gemm"}};
  r.points = {make_point("8B.o", 2, 0, 2), make_point("8B.o", 32, 0, 64), make_point("8B.qkv", 2, 0, 8),
              make_point("8B.o", 512, 75, 3)};
  return r;
}

template <typename F>
std::string error_of(const F& f) {
  try {
    f();
  } catch (const InvalidInput& e) {
    return e.what();
  }
  return "taken";
}

TEST(Results, ComeBackFromTheirText) {
  Results r = small();
  r.machine.loops = {{64, 2, 320, 1500.5, 1980}};
  r.points[0].num_wrong = 3;
  r.points[0].stream_us = r.points[0].us / 2;
  r.points[0].fused_move_us = 8;
  r.points[0].notes = {"WRONG: 3 values, a plan"};
  r.points[1].sweep = {{{"us", 1.5}, {"predicted_us", 2.0}, {"plan", "another"}}};
  const Results back = parse_results(to_text(r), "f.json");
  EXPECT_EQ(to_text(back), to_text(r));
  EXPECT_EQ(back.machine.driver, "1.2.3");
  ASSERT_EQ(back.machine.loops.size(), 1u);
  EXPECT_DOUBLE_EQ(back.machine.loops[0].share(), 0.8);
  EXPECT_THAT(format_tables(back), HasSubstr("main loop alone,  64 tokens, 2 sides:   320 clocks a group, 0.80 of"));
  EXPECT_THAT(format_tables(back), HasSubstr("bare stream of the weights / us"));
  EXPECT_THAT(format_tables(small()), Not(HasSubstr("bare stream of the weights / us")));
  EXPECT_THAT(format_tables(back),
              ContainsRegex("codes written \\+ gemm over RMSNorm \\+ cuBLAS fp16 .*\n8B.o +1.50 "));
  EXPECT_THAT(format_tables(small()), Not(HasSubstr("codes written")));
  ASSERT_EQ(back.points.size(), 4u);
  EXPECT_DOUBLE_EQ(back.points[2].beside.at("fp16").speedup(), 8);
  EXPECT_EQ(back.num_wrong(), 3);
  ASSERT_NE(back.find({.shape = "8B.o", .m = 512, .share4 = 75}), nullptr);
  EXPECT_EQ(back.find({.shape = "8B.o", .m = 512, .share4 = 0}), nullptr);
  EXPECT_EQ(nlohmann::json::parse(to_text(r)).at("means").at(0).at("mean"), 4.0);
}

TEST(Results, EmptyOnesAreJsonToo) {
  const Results back = parse_results(to_text({.machine = test_machine()}), "f.json");
  EXPECT_TRUE(back.points.empty());
}

TEST(Results, FilesWithOneShareAtTheTop) {
  const Results r = parse_results(
      R"({"gpu": "NVIDIA H200", "sms": 132, "cuda_driver": 13000, "share4": 75, "wrong": 0, "rows": [
          {"shape": "8B.qkv", "m": 1, "n": 6144, "k": 4096, "us": 5.2, "mhz": 1980.7, "plan": "gemv, 192 CTAs",
           "fp8": {"us": 9.3, "ours_us": 5.25, "speedup": 1.77, "mhz": 1980.85, "ours_mhz": 1980.4}}]})",
      "f.json");
  ASSERT_EQ(r.points.size(), 1u);
  EXPECT_EQ(r.points[0].share4, 75);
  EXPECT_DOUBLE_EQ(r.points[0].beside.at("fp8").us, 9.3);
  EXPECT_EQ(r.floor_us(r.points[0]), 0);  // its ceilings are not told
}

TEST(Results, OtherFilesAreRefused) {
  const auto refuses = [](const std::string& text) { return error_of([&] { parse_results(text, "f.json"); }); };
  EXPECT_THAT(refuses("{"), HasSubstr("f.json: not what comet bench gemm writes"));
  EXPECT_THAT(refuses("[]"), HasSubstr("f.json: not what"));
  EXPECT_THAT(refuses(R"({"gpu": "g", "sms": 1})"), HasSubstr("rows"));
  const auto row = [&](const std::string& us, const std::string& m) {
    return refuses(R"({"gpu": "g", "sms": 1, "rows": [{"shape": "a", "m": )" + m + R"(, "n": 16, "k": 128, "us": )" +
                   us + "}]}");
  };
  EXPECT_EQ(row("1.5", "1"), "taken");
  EXPECT_THAT(row("0", "1"), HasSubstr("us is 0, expected above 0"));
  EXPECT_THAT(row("\"1\"", "1"), HasSubstr("f.json"));
  EXPECT_THAT(row("1.5", "null"), HasSubstr("f.json"));
  EXPECT_THAT(error_of([] { read_results("/nowhere/f.json"); }),
              HasSubstr("cannot read /nowhere/f.json: No such file"));
}

TEST(Results, WritingLeavesNothingBeside) {
  const std::filesystem::path folder = testing::TempDir() + "gemm_bench_write";
  std::filesystem::create_directories(folder);
  const std::string file = folder / "a.json";
  write_whole(file, "one");
  write_whole(file, "two");
  std::ifstream in(file);
  std::string text;
  in >> text;
  EXPECT_EQ(text, "two");
  EXPECT_FALSE(std::filesystem::exists(file + ".part"));
  EXPECT_THAT(error_of([&] { write_whole(folder / "no" / "a.json", "x"); }), HasSubstr("cannot write"));
  std::filesystem::remove_all(folder);
}

TEST(Results, FloorIsMemoryOrProducts) {
  const Results r{.machine = test_machine()};  // 4 TB/s, 2000 TOPS
  const double weights = 4096.0 * 4096 * 65 / 128;
  EXPECT_NEAR(r.floor_us(make_point("a", 1, 0, 1)), (weights + 3 * 4096) / 4e6, 1e-9);
  EXPECT_NEAR(r.floor_us(make_point("a", 4096, 0, 1)), 2.0 * 4096 * 4096 * 4096 / 2e9, 1e-9);
}

TEST(Results, OnlyTheSameIsContinued) {
  const Results old = small();
  Results now = small();
  EXPECT_NO_THROW(check_resumable(old, now, "f.json"));
  now.machine.copy_tb_per_s = 3.9;  // varies from run to run
  EXPECT_NO_THROW(check_resumable(old, now, "f.json"));
  now.settings["rounds"] = 9;
  EXPECT_THAT(error_of([&] { check_resumable(old, now, "f.json"); }),
              HasSubstr("f.json was measured with rounds = 7, now it is 9"));
  now = small();
  now.machine.gpu = "another GPU";
  EXPECT_THAT(error_of([&] { check_resumable(old, now, "f.json"); }),
              AllOf(HasSubstr("f.json was measured on GPU of tests"), HasSubstr("this is another GPU")));
  now = small();
  now.machine.driver = "1.2.4";
  EXPECT_THROW(check_resumable(old, now, "f.json"), InvalidInput);
}

TEST(Results, MergeReplacesAndAdds) {
  Results all;
  merge(all, small(), "a.json");
  Results more = small();
  more.points = {make_point("8B.o", 2, 0, 5), make_point("8B.o", 4, 0, 6)};
  merge(all, more, "b.json");
  ASSERT_EQ(all.points.size(), 5u);
  EXPECT_DOUBLE_EQ(all.points[0].beside.at("fp16").speedup(), 5);
  EXPECT_EQ(all.points[4].m, 4);
  more.machine.gpu = "another GPU";
  EXPECT_THAT(error_of([&] { merge(all, more, "b.json"); }), HasSubstr("b.json was measured on another GPU"));
}

TEST(Means, AreGeometricAndOfTheirRange) {
  EXPECT_DOUBLE_EQ(geometric_mean({2, 8}), 4);
  EXPECT_EQ(geometric_mean({}), 0);
  const std::vector<Mean> means = all_means(small());  // M = 32 is in no range
  ASSERT_EQ(means.size(), 4u);
  EXPECT_EQ(means[0].kind, "fp16");
  EXPECT_EQ(means[0].range, "M 2-8");
  EXPECT_DOUBLE_EQ(means[0].mean, 4);
  EXPECT_DOUBLE_EQ(means[0].least, 2);
  EXPECT_EQ(means[0].num_points, 2);
  EXPECT_EQ(means[1].kind, "fused");
  EXPECT_DOUBLE_EQ(means[1].mean, 2);
  EXPECT_EQ(means[2].share4, 75);
  EXPECT_EQ(means[2].range, "M 512-4096");
}

TEST(Tables, HaveEveryPointAndTheMeans) {
  Results r = small();
  const std::string text = format_tables(r);
  EXPECT_THAT(text, ContainsRegex("over cuBLAS fp16 +M 2 +M 32 +M 512\n8B.o +2.00 +64.00 +-\n8B.qkv +8.00 +- +-\n"
                                  "geometric mean +4.00 +64.00 +-\n"));
  EXPECT_THAT(text, ContainsRegex("4-bit   0%, over RMSNorm \\+ cuBLAS fp16 +2.00 \\(1.00\\) +-\n"));
  EXPECT_THAT(text, ContainsRegex("4-bit  75%, over cuBLAS fp16 +- +3.00 \\(3.00\\)\n"));
  EXPECT_THAT(text, ContainsRegex("fraction of roofline .*\n8B.o +0.21 "));
  EXPECT_THAT(text, HasSubstr("roofline: 4.00 TB/s (measured copy), 2000 int8 TOPS"));
  EXPECT_THAT(text, Not(HasSubstr("WRONG")));
  EXPECT_THAT(text, Not(HasSubstr("bf16")));  // was not measured
  r.machine.copy_tb_per_s = 0;
  r.points[0].num_wrong = 5;
  EXPECT_THAT(format_tables(r), AllOf(Not(HasSubstr("roofline")), HasSubstr("WRONG outputs: 5")));
}

TEST(Tables, LineOfAPoint) {
  Results r = small();
  r.points[0].notes = {"not fused: no room"};
  r.points[0].sweep = {{{"us", 1.5}, {"predicted_us", 2.0}, {"plan", "another"}}};
  const std::string line = point_line(r, r.points[0]);
  EXPECT_THAT(line, HasSubstr("8B.o"));
  EXPECT_THAT(line, HasSubstr("21% of roofline"));
  EXPECT_THAT(line, HasSubstr("| fp16    20.00 x2.00 (1900, 1910 MHz)"));
  EXPECT_THAT(line, HasSubstr("\n    not fused: no room\n        1.50 us (    2.00) another"));
}

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(Draw, AChartForEachShareAndBaseline) {
  const std::string svg = draw(small());
  EXPECT_EQ(count(svg, "<path"), 2u * 3 + 2 * 1);  // two shapes and their mean; one shape alone
  EXPECT_THAT(svg, HasSubstr("gemm_w4ax over cuBLAS fp16, 75% 4-bit"));
  EXPECT_THAT(svg, HasSubstr("0% 4-bit, over RMSNorm + cuBLAS fp16: 2.00 (M 2-8)"));
  EXPECT_THAT(svg, HasSubstr(">512</text>"));
}

TEST(Draw, ManyShapesAreDrawnByFamily) {
  Results r{.machine = test_machine()};
  for (const Shape& s : resolve_shapes({"paper"}))
    for (const int m : {1, 16}) r.points.push_back(make_point(s.name, m, 0, 2));
  const std::string svg = draw(r);
  EXPECT_EQ(count(svg, "<path"), 2u * 9);  // eight families and the mean
  EXPECT_THAT(svg, HasSubstr(">OPT-175B</text>"));
  EXPECT_THAT(svg, Not(HasSubstr("OPT-175B.o")));
}

TEST(Draw, WithoutPoints) { EXPECT_THAT(draw({.machine = test_machine()}), HasSubstr("GPU of tests")); }

}  // namespace
}  // namespace comet::gemm_bench
