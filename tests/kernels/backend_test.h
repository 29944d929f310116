// SPDX-License-Identifier: Apache-2.0
// One test body over backends: what each computes is held against the reference.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace comet {

struct BackendCase {
  std::string isa;
  int num_threads = 1;
};

inline std::string case_name(const testing::TestParamInfo<BackendCase>& info) {
  return info.param.isa + "_" + std::to_string(info.param.num_threads) +
         (info.param.num_threads == 1 ? "thread" : "threads");
}

// Where this machine lacks the ISA, every test of the case is skipped: counted and listed by GoogleTest.
class BackendTest : public testing::TestWithParam<BackendCase> {
 protected:
  void SetUp() override {
    try {
      backend_ = cpu_backend(GetParam().isa, std::make_shared<ThreadPool>(GetParam().num_threads));
    } catch (const Unsupported& e) {
      GTEST_SKIP() << e.what();
    }
    ref_ = ref_backend();
  }

  std::unique_ptr<Backend> backend_, ref_;
};

#define COMET_BACKEND_CASES(suite)                                                                      \
  INSTANTIATE_TEST_SUITE_P(Cpu, suite,                                                                  \
                           testing::Values(BackendCase{"avx2", 1}, BackendCase{"avx2", 2},              \
                                           BackendCase{"avx512vnni", 1}, BackendCase{"avx512vnni", 2}), \
                           case_name)

template <typename T>
DeviceBuffer upload(Backend& backend, const std::vector<T>& host) {
  DeviceBuffer buffer(backend, host.size() * sizeof(T));
  backend.copy_in(buffer.data(), host.data(), host.size() * sizeof(T));
  return buffer;
}

template <typename T>
std::vector<T> download(Backend& backend, const void* device, size_t count) {
  std::vector<T> host(count);
  backend.synchronize();
  backend.copy_out(host.data(), device, count * sizeof(T));
  return host;
}

// Equality of bytes, with the first difference in the message.
template <typename T>
testing::AssertionResult same_bits(const std::vector<T>& got, const std::vector<T>& want) {
  if (got.size() != want.size())
    return testing::AssertionFailure() << got.size() << " against " << want.size() << " elements";
  for (size_t i = 0; i < got.size(); ++i)
    if (memcmp(&got[i], &want[i], sizeof(T)) != 0) {
      auto text = testing::AssertionFailure() << "first difference at " << i << " of " << got.size();
      if constexpr (std::is_arithmetic_v<T>) text << ": " << +got[i] << " against " << +want[i];
      return text;
    }
  return testing::AssertionSuccess();
}

}  // namespace comet
