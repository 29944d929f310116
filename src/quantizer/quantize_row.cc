// SPDX-License-Identifier: Apache-2.0
#include "quantizer/quantize_row.h"

#include <Eigen/Cholesky>
#include <Eigen/Dense>
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "quant/fp32.h"

namespace comet {
namespace {

// Rows that go through the columns together, so that a row of the factor is read once for all of them.
constexpr int kRowTile = 16;
// The search tries group scales from this share of round-to-nearest's upwards: below it clipping loses more than it
// wins.
constexpr double kSmallestScaleShare = 0.6;

int encode(float w1, const GroupParams& p) {
  return static_cast<int>(clampf(rne(w1 / static_cast<float>(p.s1)) + static_cast<float>(p.z), 0.0f, 15.0f));
}

double group_error(const float* w1, const float* importance, const GroupParams& p) {
  double error = 0.0;
  for (int i = 0; i < kGroup; ++i) {
    const double d = static_cast<double>(w1[i]) - dequantize_w8(encode(w1[i], p), p.s1, p.z);
    error += (importance != nullptr ? static_cast<double>(importance[i]) : 1.0) * d * d;
  }
  return error;
}

// kRowTile rows of weights in units of their channel scale, column by column with error feedback.
void feedback_rows(float* w1, int rows, int k, const std::vector<float>& importance, const std::vector<float>& factor,
                   bool search, uint8_t* codes, uint8_t* scales, uint8_t* zeros) {
  GroupParams params[kRowTile];
  for (int i = 0; i < k; ++i) {
    float errors[kRowTile];
    for (int r = 0; r < rows; ++r) {
      float* row = w1 + static_cast<int64_t>(r) * k;
      if (i % kGroup == 0) {
        params[r] = choose_group_params(row + i, importance.empty() ? nullptr : &importance[i], search);
        scales[static_cast<int64_t>(r) * (k / kGroup) + i / kGroup] = static_cast<uint8_t>(params[r].s1);
        zeros[static_cast<int64_t>(r) * (k / kGroup) + i / kGroup] = static_cast<uint8_t>(params[r].z);
      }
      const int code = encode(row[i], params[r]);
      uint8_t& byte = codes[static_cast<int64_t>(r) * (k / 2) + i / 2];
      byte = static_cast<uint8_t>(i % 2 == 0 ? code : (byte | (code << 4)));
      errors[r] = row[i] - static_cast<float>(dequantize_w8(code, params[r].s1, params[r].z));
    }
    const float* spread = &factor[static_cast<int64_t>(i) * k];
    for (int r = 0; r < rows; ++r) {
      float* row = w1 + static_cast<int64_t>(r) * k;
      const float error = errors[r];
      for (int j = i + 1; j < k; ++j) row[j] -= error * spread[j];
    }
  }
}

void plain_row(const float* w1, int k, const std::vector<float>& importance, bool search, uint8_t* codes,
               uint8_t* scales, uint8_t* zeros) {
  for (int g = 0; g < k / kGroup; ++g) {
    const float* x = w1 + g * kGroup;
    const GroupParams p = choose_group_params(x, importance.empty() ? nullptr : &importance[g * kGroup], search);
    scales[g] = static_cast<uint8_t>(p.s1);
    zeros[g] = static_cast<uint8_t>(p.z);
    for (int i = 0; i < kGroup; i += 2)
      codes[(g * kGroup + i) / 2] = pack_nibbles(encode(x[i], p), encode(x[i + 1], p));
  }
}

}  // namespace

std::vector<float> error_feedback_factor(const std::vector<float>& gram, int k, double damp) {
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Matrix h = Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(gram.data(), k, k)
                 .cast<double>();
  const double mean = std::max(h.diagonal().mean(), 1e-30);
  for (int i = 0; i < k; ++i) h(i, i) = (h(i, i) > 0.0 ? h(i, i) : mean) + damp * mean;
  // inv(H) = U^T U with U upper: with the order of rows and columns reversed, H = L L^T gives it by one triangular
  // inverse.
  const Matrix reversed = h.reverse();
  const Eigen::LLT<Matrix> llt(reversed);
  COMET_CHECK(llt.info() == Eigen::Success, "the calibration matrix of {} channels is not positive definite", k);
  Matrix inverse = Matrix::Identity(k, k);
  llt.matrixL().solveInPlace(inverse);
  const Matrix upper = inverse.reverse();  // reversed inv(L) is upper, and U^T U = inv(H)
  std::vector<float> factor(static_cast<size_t>(k) * k, 0.0f);
  for (int i = 0; i < k; ++i)
    for (int j = i; j < k; ++j) factor[static_cast<size_t>(i) * k + j] = static_cast<float>(upper(i, j) / upper(i, i));
  return factor;
}

GroupParams choose_group_params(const float* w1, const float* importance, bool search) {
  float low = 0.0f, high = 0.0f;
  for (int i = 0; i < kGroup; ++i) {
    low = std::min(low, w1[i]);
    high = std::max(high, w1[i]);
  }
  low = std::max(rne(low), -119.0f);  // error feedback may have pushed weights beyond the channel scale's range
  high = std::min(rne(high), 119.0f);
  const GroupParams plain = group_params_rtn(static_cast<int>(low), static_cast<int>(high));
  if (!search) return plain;
  GroupParams best = plain;
  double best_error = group_error(w1, importance, plain);
  for (int s1 = std::max(1, static_cast<int>(kSmallestScaleShare * plain.s1)); s1 <= plain.s1; ++s1) {
    const int middle =
        static_cast<int>(rne(7.5f - (low + high) / (2.0f * static_cast<float>(s1))));  // centres the clipped range
    const int left = static_cast<int>(rne(-low / static_cast<float>(s1)));             // keeps the low end
    for (const int z : {middle - 1, middle, middle + 1, left}) {
      if (!is_legal_group(s1, z)) continue;
      const double error = group_error(w1, importance, {s1, z});
      if (error < best_error) {
        best_error = error;
        best = {s1, z};
      }
    }
  }
  return best;
}

QuantizedLinear quantize_rows(const std::string& name, const std::vector<float>& weights, int n, int k,
                              const std::vector<float>& importance, const std::vector<float>& factor, bool search,
                              ThreadPool& threads) {
  QuantizedLinear out{name, n, {}, {}, {}, {}};
  const int64_t groups = k / kGroup;
  out.codes.resize(static_cast<size_t>(n) * (k / 2));
  out.group_scales.resize(static_cast<size_t>(n * groups));
  out.group_zeros.resize(static_cast<size_t>(n * groups));
  out.channel_scales.resize(static_cast<size_t>(n));
  threads.parallel_for(n, kRowTile, [&](int64_t begin, int64_t end, int) {
    const int rows = static_cast<int>(end - begin);
    std::vector<float> w1(static_cast<size_t>(rows) * k);
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = &weights[static_cast<size_t>((begin + r) * k)];
      const float scale = channel_scale_rtn(row, k);
      out.channel_scales[static_cast<size_t>(begin + r)] = scale;
      for (int i = 0; i < k; ++i) w1[static_cast<size_t>(r * k + i)] = row[i] / scale;
    }
    uint8_t* codes = &out.codes[static_cast<size_t>(begin * (k / 2))];
    uint8_t* scales = &out.group_scales[static_cast<size_t>(begin * groups)];
    uint8_t* zeros = &out.group_zeros[static_cast<size_t>(begin * groups)];
    if (!factor.empty()) {
      feedback_rows(w1.data(), rows, k, importance, factor, search, codes, scales, zeros);
      return;
    }
    for (int64_t r = 0; r < rows; ++r) {
      if (search)
        plain_row(&w1[static_cast<size_t>(r * k)], k, importance, true, codes + r * (k / 2), scales + r * groups,
                  zeros + r * groups);
      else
        quantize_row_rtn(&weights[static_cast<size_t>((begin + r) * k)], k,
                         out.channel_scales[static_cast<size_t>(begin + r)], codes + r * (k / 2), scales + r * groups,
                         zeros + r * groups);
    }
  });
  return out;
}

std::vector<float> dequantize_rows(const QuantizedLinear& linear, int k) {
  std::vector<float> w(static_cast<size_t>(linear.n) * k);
  for (int64_t row = 0; row < linear.n; ++row)
    for (int i = 0; i < k; ++i) {
      const int64_t group = row * (k / kGroup) + i / kGroup;
      const int w8 = dequantize_w8(unpack_nibble(&linear.codes[static_cast<size_t>(row * (k / 2))], i),
                                   linear.group_scales[static_cast<size_t>(group)],
                                   linear.group_zeros[static_cast<size_t>(group)]);
      w[static_cast<size_t>(row * k + i)] = linear.channel_scales[static_cast<size_t>(row)] * static_cast<float>(w8);
    }
  return w;
}

}  // namespace comet
