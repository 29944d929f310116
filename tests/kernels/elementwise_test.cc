// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "kernels/samples.h"

namespace comet {
namespace {

std::vector<float> normal_floats(size_t count, unsigned seed, float scale = 1.0f) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> x(count);
  for (float& v : x) v = normal(rng);
  return x;
}

// The floats in a dtype, as bytes.
std::vector<uint8_t> stored(const std::vector<float>& x, DType dtype) {
  std::vector<uint8_t> bytes(x.size() * dtype_bytes(dtype));
  for (size_t i = 0; i < x.size(); ++i) {
    const bf16 b = to_bf16(x[i]);
    const f16 h = to_f16(x[i]);
    const void* from = dtype == DType::bf16  ? static_cast<const void*>(&b)
                       : dtype == DType::f16 ? static_cast<const void*>(&h)
                                             : &x[i];
    memcpy(&bytes[i * dtype_bytes(dtype)], from, dtype_bytes(dtype));
  }
  return bytes;
}

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};
constexpr int kWidths[] = {1, 7, 16, 33, 128, 200, 1000};

class Elementwise : public BackendTest {
 protected:
  // Runs body on both and compares `count` floats of output.
  template <typename Body>
  void check(size_t count, Body body) {
    auto run = [&](Backend& backend) {
      const DeviceBuffer out(backend, count * sizeof(float));
      body(backend, out.as<float>());
      return download<float>(backend, out.data(), count);
    };
    EXPECT_TRUE(same_bits(run(*backend_), run(*ref_)));
  }
};

TEST_P(Elementwise, Embed) {
  for (DType dtype : kFloats)
    for (int hidden : kWidths) {
      const std::vector<int32_t> ids = {3, 0, 9, 9, 1};
      check(ids.size() * static_cast<size_t>(hidden), [&](Backend& b, float* out) {
        std::vector<float> values = normal_floats(static_cast<size_t>(10 * hidden), 1);
        values[0] = 1e-40f;  // a subnormal stays
        const DeviceBuffer table = upload(b, stored(values, dtype)), device_ids = upload(b, ids);
        b.embed({.m = 5,
                 .hidden = hidden,
                 .ids = device_ids.as<int32_t>(),
                 .table = table.data(),
                 .table_dtype = dtype,
                 .out = out});
      });
    }
}

TEST_P(Elementwise, RmsNorm) {
  for (DType dtype : kFloats)
    for (int hidden : kWidths)
      for (float scale : {1.0f, 1e-30f, 1e25f}) {
        const std::vector<int32_t> ids = {4, 1, 2};
        check(static_cast<size_t>(3 * hidden), [&](Backend& b, float* out) {
          const DeviceBuffer x = upload(b, normal_floats(static_cast<size_t>(5 * hidden), 2, scale)),
                             device_ids = upload(b, ids);
          const DeviceBuffer gain = upload(b, stored(normal_floats(static_cast<size_t>(hidden), 3), dtype));
          b.rms_norm({.m = 3,
                      .hidden = hidden,
                      .x = x.as<float>(),
                      .row_ids = hidden % 2 != 0 ? device_ids.as<int32_t>() : nullptr,
                      .gain = gain.data(),
                      .gain_dtype = dtype,
                      .eps = 1e-6f,
                      .out = out});
        });
      }
}

TEST_P(Elementwise, SiluMul) {
  for (int width : kWidths)
    for (float scale : {1.0f, 40.0f, 1e-3f, 1e30f})
      check(static_cast<size_t>(3 * width), [&](Backend& b, float* out) {
        std::vector<float> x = normal_floats(static_cast<size_t>(6 * width), 4, scale);
        x[0] = -87.4f;  // exp2 of about 126.1: 1 + it is still finite
        const DeviceBuffer gate_up = upload(b, x);
        b.silu_mul({.m = 3, .width = width, .gate_up = gate_up.as<float>(), .out = out});
      });
}

TEST_P(Elementwise, CheckFinite) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (int n : kWidths)
    for (float bad :
         {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::max()})
      for (int spot : {0, n / 2, n - 1}) {
        std::vector<float> x = normal_floats(static_cast<size_t>(4 * n), 5);
        x[static_cast<size_t>(n + spot)] = bad;
        x[static_cast<size_t>(3 * n + spot)] = bad;
        auto run = [&](Backend& b) {
          const DeviceBuffer device = upload(b, x), errors = upload(b, std::vector<uint32_t>{0, 0, 0, 5});
          b.check_finite(
              {.m = 4, .n = n, .x = device.as<float>(), .row_errors = errors.as<uint32_t>(), .error_tag = 9});
          return download<uint32_t>(b, errors.data(), 4);
        };
        EXPECT_TRUE(same_bits(run(*backend_), run(*ref_)));
      }
}

COMET_BACKEND_CASES(Elementwise);

}  // namespace
}  // namespace comet
