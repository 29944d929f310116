// SPDX-License-Identifier: Apache-2.0
// A view of host memory with a dtype and a shape, row-major and dense. Owns nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/dtype.h"

namespace comet {

struct TensorView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;

  int64_t num_elements() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
  size_t bytes() const { return static_cast<size_t>(num_elements()) * dtype_bytes(dtype); }
};

// "bf16 [4096, 1024]"
std::string to_string(const TensorView& t);

// The elements widened exactly to fp32. Throws Error when the dtype is not a float type.
std::vector<float> to_f32(const TensorView& t);

}  // namespace comet
