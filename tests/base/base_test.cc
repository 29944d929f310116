// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <fstream>
#include <numeric>

#include "base/check.h"
#include "base/dtype.h"
#include "base/mapped_file.h"
#include "base/tensor.h"
#include "base/thread_pool.h"

namespace comet {
namespace {

TEST(Check, MessageHasPlaceConditionAndValues) {
  try {
    const int got = 3;
    COMET_CHECK(got == 4, "got {}", got);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("got == 4"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("got 3"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("base_test.cc:"), std::string::npos) << e.what();
  }
  EXPECT_THROW(throw_unsupported("no {}", "x"), InvalidInput);
}

TEST(Dtype, EveryF16SurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float x = to_float(f16{static_cast<uint16_t>(bits)});
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(to_float(to_f16(x))));
      continue;
    }
    ASSERT_EQ(to_f16(x).bits, bits);
  }
}

// A value between two neighbours goes to the nearer one, a tie to the even one.
TEST(Dtype, F16RoundsToNearestEven) {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const double low = static_cast<double>(to_float(f16{static_cast<uint16_t>(bits)}));
    const double high = static_cast<double>(to_float(f16{static_cast<uint16_t>(bits + 1)}));
    const float tie = static_cast<float>((low + high) / 2);
    ASSERT_EQ(to_f16(tie).bits, bits % 2 == 0 ? bits : bits + 1);
    ASSERT_EQ(to_f16(std::nextafter(tie, 0.0f)).bits, bits);
    ASSERT_EQ(to_f16(std::nextafter(tie, 1e9f)).bits, bits + 1);
  }
  EXPECT_EQ(to_f16(65519.9f).bits, 0x7bff);
  EXPECT_EQ(to_f16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(to_f16(-1e30f).bits, 0xfc00);
}

TEST(Dtype, Bf16RoundsToNearestEvenAndKeepsSubnormals) {
  EXPECT_EQ(to_bf16(1.0f).bits, 0x3f80);
  EXPECT_EQ(to_bf16(float_from_bits(0x3f808000)).bits, 0x3f80);  // tie, even below
  EXPECT_EQ(to_bf16(float_from_bits(0x3f818000)).bits, 0x3f82);  // tie, even above
  EXPECT_EQ(to_bf16(float_from_bits(0x3f808001)).bits, 0x3f81);
  EXPECT_EQ(to_bf16(float_from_bits(0x00018000)).bits, 0x0002);
  EXPECT_EQ(to_bf16(float_from_bits(0x7f7fffff)).bits, 0x7f80);
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::nanf("")))));
}

TEST(Tensor, WidensAtAnyAddress) {
  std::vector<char> bytes(9);
  const uint16_t values[] = {0x3f80, 0x4000};
  memcpy(bytes.data() + 1, values, 4);
  EXPECT_EQ(to_f32({bytes.data() + 1, DType::bf16, {2}}), (std::vector<float>{1.0f, 2.0f}));
  EXPECT_THROW(to_f32({bytes.data(), DType::u8, {2}}), Error);
}

TEST(ThreadPool, CoversEveryIndexOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (const int64_t count : {0, 1, 7, 1000})
      for (const int64_t grain : {1, 3, 4000}) {
        std::vector<std::atomic<int>> hits(static_cast<size_t>(count));
        pool.parallel_for(count, grain, [&](int64_t begin, int64_t end, int thread) {
          ASSERT_LE(end - begin, grain);
          ASSERT_LT(thread, threads);
          for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
        });
        for (const auto& h : hits) ASSERT_EQ(h.load(), 1);
      }
  }
}

TEST(ThreadPool, RethrowsAndGoesOn) {
  ThreadPool pool(3);
  for (int round = 0; round < 50; ++round) {
    EXPECT_THROW(pool.parallel_for(100, 1,
                                   [&](int64_t i, int64_t, int) {
                                     if (i == 37) throw InvalidInput("x");
                                   }),
                 InvalidInput);
    std::atomic<int> sum{0};
    pool.parallel_for(100, 7, [&](int64_t begin, int64_t end, int) { sum += static_cast<int>(end - begin); });
    ASSERT_EQ(sum.load(), 100);
  }
}

TEST(MappedFile, SaysWhatIsWrong) {
  EXPECT_THROW(MappedFile("/nonexistent/file"), InvalidInput);
  EXPECT_THROW(MappedFile(testing::TempDir()), InvalidInput);
  const std::string path = testing::TempDir() + "comet-base-test-" + std::to_string(getpid());
  std::ofstream(path) << "abc";
  EXPECT_EQ(read_file(path), "abc");
  EXPECT_THROW(read_file(path, 2), InvalidInput);
  std::ofstream(path, std::ios::trunc).flush();
  EXPECT_EQ(MappedFile(path).size(), 0u);
  std::remove(path.c_str());
}

}  // namespace
}  // namespace comet
