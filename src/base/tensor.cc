// SPDX-License-Identifier: Apache-2.0
#include "base/tensor.h"

#include <fmt/ranges.h>

namespace comet {

std::string to_string(const TensorView& t) {
  return fmt::format("{} [{}]", to_string(t.dtype), fmt::join(t.shape, ", "));
}

std::vector<float> to_f32(const TensorView& t) {
  std::vector<float> out(static_cast<size_t>(t.num_elements()));
  auto widen = [&](auto zero) {
    using T = decltype(zero);
    const char* in = static_cast<const char*>(t.data);
    for (size_t i = 0; i < out.size(); ++i) {
      T element;
      memcpy(&element, in + i * sizeof(T), sizeof(T));  // a file may hold tensors at any offset
      out[i] = to_float(element);
    }
  };
  switch (t.dtype) {
    case DType::f32: widen(float{}); break;
    case DType::bf16: widen(bf16{}); break;
    case DType::f16: widen(f16{}); break;
    default: COMET_CHECK(false, "{} is not a float tensor", to_string(t));
  }
  return out;
}

}  // namespace comet
