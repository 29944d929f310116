// SPDX-License-Identifier: Apache-2.0
// Arrays as cudaMalloc's, for kernels that run on the CPU.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace comet::cuda {

constexpr int kPoison = 0x7f;

template <typename T>
struct Aligned {  // 64 bytes more
  explicit Aligned(const std::vector<T>& from) : Aligned(from.size()) { std::copy(from.begin(), from.end(), data); }
  explicit Aligned(size_t n) : size(n), data(static_cast<T*>(std::aligned_alloc(128, bytes()))) {
    std::memset(data, kPoison, bytes());
  }
  ~Aligned() { std::free(data); }
  Aligned(const Aligned&) = delete;
  size_t bytes() const { return (size * sizeof(T) + 64 + 127) / 128 * 128; }

  void expect_equal(const char* name, const std::vector<T>& want) const {
    ASSERT_EQ(want.size(), size) << name;
    for (size_t i = 0; i < size; ++i) ASSERT_EQ(std::memcmp(data + i, &want[i], sizeof(T)), 0) << name << " " << i;
    for (size_t i = size * sizeof(T); i < bytes(); ++i)
      ASSERT_EQ(reinterpret_cast<const char*>(data)[i], kPoison) << "behind " << name;
  }

  size_t size;
  T* data;
};

}  // namespace comet::cuda
