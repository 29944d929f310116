// SPDX-License-Identifier: Apache-2.0
// A whole run with a meter that makes its figures up: order, files, going on, interruption, options.
#include "bench/gemm/run.h"

#include <gmock/gmock.h>
#include <signal.h>

#include <filesystem>
#include <fstream>

#include "base/check.h"
#include "points.h"

namespace comet::gemm_bench {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Run : public testing::Test {
 protected:
  Run() : folder_(testing::TempDir() + "gemm_bench_run") {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    options_.shapes = {"8B.o", "16x128"};
    options_.tokens = {1, 16};
    options_.shares4 = {0, 75};
    options_.json = folder_ / "a.json";
  }
  ~Run() override { std::filesystem::remove_all(folder_); }

  // What the meter was asked for: "8B.o 16 75".
  std::vector<std::string> run() {
    asked_.clear(), lines_.clear();
    result_ = gemm_bench::run(
        options_, [&](const std::string& line) { lines_.push_back(line); },
        [&](const api::BenchGemmOptions&) {
          class Borrowed : public FakeMeter {
           public:
            explicit Borrowed(Run& test) : test_(test) {
              described = test.machine_, on_measure = test.on_measure_, num_wrong = test.num_wrong_;
            }
            Point measure(const Shape& shape, int m, int share4) override {
              const Point p = FakeMeter::measure(shape, m, share4);
              test_.asked_.push_back(fmt::format("{} {} {}", shape.name, m, share4));
              return p;
            }

           private:
            Run& test_;
          };
          return std::make_unique<Borrowed>(*this);
        });
    return asked_;
  }

  std::string error() {
    try {
      run();
    } catch (const InvalidInput& e) {
      return e.what();
    }
    return "taken";
  }

  std::filesystem::path folder_;
  api::BenchGemmOptions options_;
  Machine machine_ = test_machine();
  std::function<void()> on_measure_ = [] {};
  int num_wrong_ = 0;
  api::BenchGemmResult result_;
  std::vector<std::string> asked_, lines_;
};

TEST_F(Run, MeasuresShapeByShape) {
  EXPECT_THAT(run(), ElementsAre("8B.o 1 0", "8B.o 16 0", "8B.o 1 75", "8B.o 16 75", "16x128 1 0", "16x128 16 0",
                                 "16x128 1 75", "16x128 16 75"));
  EXPECT_EQ(lines_.size(), 8u);
  const Results r = read_results(options_.json);
  EXPECT_EQ(r.points.size(), 8u);
  EXPECT_EQ(r.machine.gpu, "GPU of tests");
  EXPECT_THAT(r.commands, ElementsAre("comet bench gemm --shapes 8B.o,16x128 --m 1,16 --share4 0,75"));
  EXPECT_THAT(result_.tables, HasSubstr("over cuBLAS fp16"));
  EXPECT_FALSE(result_.is_interrupted);
}

TEST_F(Run, AFileIsWholeAfterEveryPointAndGoesOn) {
  int left = 3;
  on_measure_ = [&] {
    if (left-- == 0) throw Error("the GPU fell off");
  };
  EXPECT_THROW(run(), Error);
  EXPECT_EQ(read_results(options_.json).points.size(), 3u);
  on_measure_ = [] {};
  options_.resume = true;
  machine_.copy_tb_per_s = 1;  // the first run's stays
  EXPECT_THAT(run(), ElementsAre("8B.o 16 75", "16x128 1 0", "16x128 16 0", "16x128 1 75", "16x128 16 75"));
  EXPECT_THAT(lines_.back(), HasSubstr("3 points were in"));
  EXPECT_EQ(read_results(options_.json).points.size(), 8u);
  EXPECT_EQ(read_results(options_.json).machine.copy_tb_per_s, 4);
  EXPECT_EQ(read_results(options_.json).commands.size(), 1u);
  options_.shapes = {"8B.qkv"};  // more shapes come to the same file
  EXPECT_EQ(run().size(), 4u);
  EXPECT_EQ(read_results(options_.json).points.size(), 12u);
  EXPECT_EQ(read_results(options_.json).commands.size(), 2u);
}

TEST_F(Run, WithoutResumeItBeginsAnew) {
  run();
  options_.shapes = {"8B.o"};
  EXPECT_EQ(run().size(), 4u);
  EXPECT_EQ(read_results(options_.json).points.size(), 4u);
}

TEST_F(Run, ResumeWithoutAFileBegins) {
  options_.resume = true;
  EXPECT_EQ(run().size(), 8u);
}

TEST_F(Run, ResumeNeedsTheSameMachineAndSettings) {
  run();
  options_.resume = true;
  options_.rounds = 9;
  EXPECT_THAT(error(), HasSubstr("rounds = 7, now it is 9"));
  options_.rounds = 7;
  options_.bf16 = true;
  EXPECT_THAT(error(), HasSubstr("bf16 = false, now it is true"));
  options_.bf16 = false;
  machine_.sms = 114;
  EXPECT_THAT(error(), HasSubstr("this is GPU of tests with 114 SMs"));
  machine_ = test_machine();
  std::ofstream(options_.json) << "not JSON";
  EXPECT_THAT(error(), HasSubstr("a.json: not what comet bench gemm writes"));
}

TEST_F(Run, ASignalEndsItBehindThePoint) {
  int left = 2;
  on_measure_ = [&] {
    if (--left == 0) raise(SIGINT);
  };
  EXPECT_EQ(run().size(), 2u);
  EXPECT_TRUE(result_.is_interrupted);
  EXPECT_EQ(read_results(options_.json).points.size(), 2u);
  on_measure_ = [] {};
  options_.resume = true;
  EXPECT_EQ(run().size(), 6u);
  EXPECT_FALSE(result_.is_interrupted);
}

TEST_F(Run, WrongOutputsAreCounted) {
  num_wrong_ = 2;
  run();
  EXPECT_EQ(result_.num_wrong, 16);
  EXPECT_THAT(result_.tables, HasSubstr("WRONG outputs: 16"));
}

TEST_F(Run, FilesAreShownWithoutAGpu) {
  run();
  options_.json = folder_ / "b.json";
  options_.shares4 = {100};
  run();
  options_.from = {folder_ / "a.json", folder_ / "b.json"};
  options_.json = "";
  options_.plot = folder_ / "a.svg";
  EXPECT_TRUE(run().empty());
  EXPECT_THAT(result_.tables, HasSubstr("4-bit  75%, over cuBLAS fp16"));
  EXPECT_THAT(result_.tables, HasSubstr("4-bit 100%, over cuBLAS fp16"));
  std::ifstream svg(options_.plot);
  std::string begin;
  svg >> begin;
  EXPECT_EQ(begin, "<svg");
  machine_.gpu = "another GPU", options_.from = {}, options_.json = folder_ / "b.json";
  run();
  options_.from = {folder_ / "a.json", folder_ / "b.json"};
  EXPECT_THAT(error(), HasSubstr("b.json was measured on another GPU with 100 SMs"));
}

TEST_F(Run, OptionsThatCannotBe) {
  const api::BenchGemmOptions fine = options_;
  const auto refuses = [&](const auto& change) {
    options_ = fine;
    change(options_);
    return error();
  };
  EXPECT_THAT(refuses([](auto& o) { o.tokens = {0}; }), HasSubstr("--m 0: expected 1 to 65536"));
  EXPECT_THAT(refuses([](auto& o) { o.shares4 = {101}; }), HasSubstr("--share4 101: expected 0 to 100"));
  EXPECT_THAT(refuses([](auto& o) { o.rounds = 0; }), HasSubstr("--rounds 0"));
  EXPECT_THAT(refuses([](auto& o) { o.replay_us = 0; }), HasSubstr("--replay-us 0"));
  EXPECT_THAT(refuses([](auto& o) { o.repeat_checks = 0; }), HasSubstr("--repeat-checks 0"));
  EXPECT_THAT(refuses([](auto& o) { o.json = "", o.resume = true; }), HasSubstr("--resume goes with --json"));
  EXPECT_THAT(refuses([](auto& o) { o.json = "/nowhere/a.json"; }), HasSubstr("there is no folder /nowhere"));
  EXPECT_THAT(refuses([](auto& o) { o.plot = "/nowhere/a.svg"; }), HasSubstr("cannot write /nowhere/a.svg"));
  EXPECT_THAT(refuses([](auto& o) { o.shapes = {"8C"}; }), HasSubstr("--shapes 8C"));
  EXPECT_THAT(refuses([](auto& o) { o.ablation = o.sweep = true; }), HasSubstr("--ablation has neither"));
  EXPECT_THAT(refuses([](auto& o) { o.ablation = o.resume = true; }), HasSubstr("--ablation has neither"));
  EXPECT_THAT(refuses([](auto& o) { o.ablation = true, o.plot = "a.svg"; }), HasSubstr("--ablation has neither"));
  EXPECT_THAT(refuses([](auto& o) { o.ablation = true, o.from = {"a.json"}; }), HasSubstr("--ablation has neither"));
  EXPECT_THAT(refuses([](auto& o) { o.ablation = o.lm_head = true; }), HasSubstr("--ablation has neither"));
  EXPECT_THAT(refuses([](auto& o) { o.lm_head = o.quantize = true; }), HasSubstr("--lm-head has neither"));
  EXPECT_THAT(refuses([](auto& o) { o.lm_head = o.resume = true; }), HasSubstr("--lm-head has neither"));
  EXPECT_THAT(refuses([](auto& o) { o.lm_head = true, o.plot = "a.svg"; }), HasSubstr("--lm-head has neither"));
  EXPECT_THAT(refuses([](auto& o) { o.lm_head = true, o.from = {"a.json"}; }), HasSubstr("--lm-head has neither"));
  EXPECT_THAT(refuses([](auto& o) { o.quantize = true, o.plot = "a.svg"; }), HasSubstr("--quantize"));
  EXPECT_TRUE(asked_.empty());
}

TEST(Command, NamesWhatIsNotTheDefault) {
  api::BenchGemmOptions o;
  EXPECT_EQ(command_of(o), "comet bench gemm");
  o.shapes = {"paper"}, o.tokens = {1, 2}, o.shares4 = {75}, o.rounds = 9, o.replay_us = 1500, o.bf16 = true;
  o.json = "/a/b.json", o.cublas_folder = "/c";  // paths are of one machine
  EXPECT_EQ(command_of(o), "comet bench gemm --shapes paper --m 1,2 --share4 75 --bf16 --rounds 9 --replay-us 1500");
  o = {};
  o.lm_head = true;
  EXPECT_EQ(command_of(o), "comet bench gemm --lm-head");
}

TEST(Meter, NamesWhatIsMissing) {
  try {
    make_meter({.baselines = false});
    GTEST_SKIP() << "there is a Hopper GPU";
  } catch (const Unsupported& e) {
    EXPECT_THAT(e.what(), testing::AnyOf(HasSubstr("needs a Hopper GPU"), HasSubstr("cmake -DCOMET_CUDA=ON")));
    EXPECT_THAT(e.what(), testing::Not(HasSubstr("\n")));
  }
}

// As in every program but comet-bench-gemm, GPU or not.
TEST(Ablation, IsNotInTheLibrary) {
  try {
    measure_ablation({}, [](const std::string&) {});
    FAIL() << "it was measured";
  } catch (const Unsupported& e) {
    EXPECT_THAT(e.what(), HasSubstr("in the program comet-bench-gemm only"));
  }
}

}  // namespace
}  // namespace comet::gemm_bench
