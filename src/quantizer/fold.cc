// SPDX-License-Identifier: Apache-2.0
#include "quantizer/fold.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "quant/fp32.h"

namespace comet {

void rotate_value_rows(std::vector<float>& wv, int head_dim, int k) {
  COMET_CHECK(wv.size() % (static_cast<size_t>(head_dim) * k) == 0, "{} values", wv.size());
  std::vector<float> column(static_cast<size_t>(head_dim));
  for (size_t head = 0; head < wv.size(); head += static_cast<size_t>(head_dim) * k)
    for (int j = 0; j < k; ++j) {
      for (int i = 0; i < head_dim; ++i) column[static_cast<size_t>(i)] = wv[head + static_cast<size_t>(i) * k + j];
      hadamard(column.data(), head_dim, hadamard_scale(head_dim));
      for (int i = 0; i < head_dim; ++i) wv[head + static_cast<size_t>(i) * k + j] = column[static_cast<size_t>(i)];
    }
}

void rotate_output_columns(std::vector<float>& wo, int head_dim) {
  COMET_CHECK(wo.size() % static_cast<size_t>(head_dim) == 0, "{} values", wo.size());
  for (size_t at = 0; at < wo.size(); at += static_cast<size_t>(head_dim))
    hadamard(&wo[at], head_dim, hadamard_scale(head_dim));
}

void permute_rows(std::vector<float>& w, const std::vector<int32_t>& order, int k) {
  COMET_CHECK_EQ(w.size(), order.size() * static_cast<size_t>(k));
  std::vector<float> out(w.size());
  for (size_t i = 0; i < order.size(); ++i)
    std::copy_n(w.begin() + static_cast<int64_t>(order[i]) * k, k, out.begin() + static_cast<int64_t>(i) * k);
  w = std::move(out);
}

void permute_columns(std::vector<float>& w, const std::vector<int32_t>& order) {
  std::vector<float> row(order.size());
  for (size_t at = 0; at < w.size(); at += order.size()) {
    for (size_t i = 0; i < order.size(); ++i) row[i] = w[at + static_cast<size_t>(order[i])];
    std::copy(row.begin(), row.end(), w.begin() + static_cast<int64_t>(at));
  }
}

std::vector<float> key_smoothing(const std::vector<float>& keys, int num_kv_heads, int head_dim) {
  const int half = head_dim / 2;
  const size_t width = static_cast<size_t>(num_kv_heads) * head_dim;
  std::vector<float> lambda(width, 0.0f);
  for (size_t row = 0; row < keys.size(); row += width)
    for (int h = 0; h < num_kv_heads; ++h)
      for (int i = 0; i < half; ++i) {
        const size_t a = static_cast<size_t>(h) * head_dim + static_cast<size_t>(i), b = a + static_cast<size_t>(half);
        lambda[a] = std::max(lambda[a], std::hypot(keys[row + a], keys[row + b]));
      }
  for (int h = 0; h < num_kv_heads; ++h) {
    double mean = 0.0;
    for (int i = 0; i < half; ++i) {
      float& v = lambda[static_cast<size_t>(h) * head_dim + static_cast<size_t>(i)];
      v = std::sqrt(std::max(v, 1e-20f));
      mean += static_cast<double>(v) / half;
    }
    for (int i = 0; i < half; ++i) {
      float& v = lambda[static_cast<size_t>(h) * head_dim + static_cast<size_t>(i)];
      v = std::max(static_cast<float>(static_cast<double>(v) / mean), 1e-3f);
      lambda[static_cast<size_t>(h) * head_dim + static_cast<size_t>(i + half)] = v;
    }
  }
  return lambda;
}

void scale_rows(std::vector<float>& w, const std::vector<float>& lambda, int num_heads, int num_kv_heads, int head_dim,
                int k, bool inverse) {
  COMET_CHECK_EQ(w.size(), static_cast<size_t>(num_heads) * head_dim * k);
  for (int64_t row = 0; row < int64_t{num_heads} * head_dim; ++row) {
    const int64_t kv_head = row / head_dim / (num_heads / num_kv_heads);
    const float factor = lambda[static_cast<size_t>(kv_head * head_dim + row % head_dim)];
    for (int64_t i = 0; i < k; ++i) {
      float& v = w[static_cast<size_t>(row * k + i)];
      v = inverse ? v / factor : v * factor;
    }
  }
}

}  // namespace comet
