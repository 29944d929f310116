// SPDX-License-Identifier: Apache-2.0
// The output folder appears complete or not at all: full disk, kill -9, folders in the way, NaN in a weight.
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "base/mapped_file.h"
#include "folders.h"
#include "model/checkpoint.h"
#include "quantizer/output_folder.h"

namespace comet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const fs::path kModel = golden_model("llama-plain");

// Names in a folder.
std::vector<std::string> list(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  return names;
}

TEST(OutputFolder, LeavesNothingElseBehind) {
  const TemporaryFolder folder;
  quantize(kModel, folder / "out", "rtn");
  EXPECT_THAT(list(folder.path()), testing::ElementsAre("out"));
  EXPECT_THAT(list(folder / "out"),
              testing::UnorderedElementsAre("model.safetensors", "config.json", "config.transformers4.json",
                                            "generation_config.json"));
  EXPECT_TRUE(Checkpoint::open(folder / "out").is_quantized());
}

TEST(OutputFolder, AnEmptyFolderIsTaken) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "out");
  quantize(kModel, folder / "out", "rtn");
  EXPECT_TRUE(Checkpoint::open(folder / "out").is_quantized());
}

TEST(OutputFolder, WhatIsThereIsNotTouched) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "out");
  std::ofstream(folder / "out/precious") << "x";
  EXPECT_THAT(message_of([&] { quantize(kModel, folder / "out", "rtn"); }),
              HasSubstr("exists and is not an empty folder"));
  EXPECT_THAT(list(folder.path()), testing::ElementsAre("out"));
  EXPECT_THAT(list(folder / "out"), testing::ElementsAre("precious"));
  std::ofstream(folder / "file") << "x";
  EXPECT_THAT(message_of([&] { quantize(kModel, folder / "file", "rtn"); }),
              HasSubstr("exists and is not an empty folder"));
}

TEST(OutputFolder, OneWriterAtATime) {
  const TemporaryFolder folder;
  {
    const OutputFolder first(folder / "out");
    EXPECT_THAT(message_of([&] { const OutputFolder second(folder / "out"); }),
                HasSubstr("another process is writing"));
  }
  EXPECT_THAT(list(folder.path()), testing::IsEmpty());
  quantize(kModel, folder / "out", "rtn");
}

TEST(OutputFolder, AnUnwritablePlace) {
  EXPECT_THAT(message_of([&] { quantize(kModel, "/proc/none/out", "rtn"); }), HasSubstr("/proc/none/out"));
}

TEST(OutputFolder, AQuantizedModelIsNotQuantizedAgain) {
  const TemporaryFolder folder;
  quantize(kModel, folder / "once", "rtn");
  EXPECT_THAT(message_of([&] { quantize(folder / "once", folder / "twice", "rtn"); }),
              HasSubstr("is quantized already"));
  EXPECT_FALSE(fs::exists(folder / "twice"));
}

TEST(OutputFolder, NanAndInfinityInAWeight) {
  for (const char* name : {"model.embed_tokens.weight", "model.layers.1.self_attn.v_proj.weight",
                           "model.layers.0.input_layernorm.weight", "lm_head.weight"})
    for (const uint16_t bits : {0x7fc0, 0xff80}) {
      const TemporaryFolder folder;
      fs::copy(kModel, folder / "in");
      auto tensors = load_tensors(kModel / "model.safetensors");
      ASSERT_TRUE(tensors.contains(name));
      memcpy(&tensors[name].bytes[2 * 5], &bits, 2);
      write_safetensors(folder / "in/model.safetensors", tensors);
      EXPECT_THAT(message_of([&] { quantize(folder / "in", folder / "out", "rtn"); }),
                  AllOf(HasSubstr(name), HasSubstr("at index 5")));
      EXPECT_THAT(list(folder.path()), testing::ElementsAre("in"));
    }
}

// Runs `child` in a process of its own that ends with its result.
int run_child(const std::function<int()>& child) {
  const pid_t pid = fork();
  if (pid == 0) _exit(child());
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return status;
}

// A limit on the size of files stands for a full disk: write() fails in the same place.
TEST(OutputFolder, DiskFull) {
  const TemporaryFolder folder;
  const int status = run_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{20000, 20000};
    setrlimit(RLIMIT_FSIZE, &limit);
    const std::string message = message_of([&] { quantize(kModel, folder / "out", "rtn"); });
    return message.find("cannot write") != std::string::npos && message.find("File too large") != std::string::npos ? 7
                                                                                                                    : 8;
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_THAT(list(folder.path()), testing::IsEmpty());
}

TEST(OutputFolder, KilledWhileWriting) {
  const TemporaryFolder folder;
  const int status = run_child([&] {
    OutputFolder out(folder / "out");
    out.add("a", make_tensor(DType::f32, {2}, std::vector<float>{1, 2}));
    out.write_file("config.json", "{}");
    raise(SIGKILL);
    return 0;
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_FALSE(fs::exists(folder / "out"));
  EXPECT_TRUE(fs::exists(folder / "out.partial"));
  quantize(kModel, folder / "out", "rtn");  // runs over what was left
  EXPECT_THAT(list(folder.path()), testing::ElementsAre("out"));
  EXPECT_TRUE(Checkpoint::open(folder / "out").is_quantized());
}

// kill -9 after each layer and before the last rename.
TEST(OutputFolder, KilledAtEveryLayer) {
  for (int layer = 0; layer < 2; ++layer) {
    const TemporaryFolder folder;
    const int status = run_child([&] {
      ThreadPool threads(1);
      const auto backend = ref_backend();
      quantize_model({.input = kModel,
                      .output = folder / "out",
                      .recipe = load_recipe("rtn"),
                      .windows = {},
                      .progress =
                          [&](int done, int) {
                            if (done == layer) raise(SIGKILL);
                          }},
                     *backend, threads);
      return 0;
    });
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_FALSE(fs::exists(folder / "out"));
    quantize(kModel, folder / "out", "rtn");
    EXPECT_TRUE(Checkpoint::open(folder / "out").is_quantized());
  }
}

}  // namespace
}  // namespace comet
