// SPDX-License-Identifier: Apache-2.0
#include "quantizer/quantize_site.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "quant/fp32.h"
#include "quantizer/quantize_row.h"

namespace comet {
namespace {

constexpr float kClipCandidates[] = {1.0f, 0.975f, 0.95f, 0.925f, 0.9f, 0.875f, 0.85f, 0.8f, 0.75f, 0.7f};

// Rows [count, k_in] in channel order -> [count, k]: permuted, padded, region 2 rotated.
std::vector<float> transform_rows(const float* rows, int64_t count, const ActFormat& f,
                                  const std::vector<int32_t>& perm, ThreadPool& threads) {
  std::vector<float> out(static_cast<size_t>(count * f.k), 0.0f);
  threads.parallel_for(count, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      float* to = &out[static_cast<size_t>(r * f.k)];
      for (int i = 0; i < f.k; ++i)
        if (perm[static_cast<size_t>(i)] >= 0) to[i] = rows[r * f.k_in + perm[static_cast<size_t>(i)]];
      if (f.rotate)
        for (int g = f.num_int8_groups; g < f.num_groups(); ++g)
          hadamard(to + g * kGroup, kGroup, hadamard_scale(kGroup));
    }
  });
  return out;
}

std::vector<float> transpose(const std::vector<float>& a, int64_t rows, int64_t cols) {
  std::vector<float> out(a.size());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) out[static_cast<size_t>(j * rows + i)] = a[static_cast<size_t>(i * cols + j)];
  return out;
}

// T G T^T for the site's transform T of channels.
std::vector<float> transform_gram(const std::vector<float>& gram, const ActFormat& f, const std::vector<int32_t>& perm,
                                  ThreadPool& threads) {
  const std::vector<float> half = transform_rows(gram.data(), f.k_in, f, perm, threads);  // [k_in, k]
  return transform_rows(transpose(half, f.k_in, f.k).data(), f.k, f, perm, threads);      // [k, k]
}

// The samples as the quantized model will see them, [num_samples, k] in the transformed order.
std::vector<float> quantized_samples(const SiteStatistics& s, const ActFormat& f, const std::vector<int32_t>& perm,
                                     Backend& backend) {
  const int m = s.num_samples;
  DeviceBuffer x(backend, s.samples.size() * sizeof(float)), p(backend, perm.size() * sizeof(int32_t)),
      acts(backend, backend.acts_bytes(m, f.k)), errors(backend, static_cast<size_t>(m) * sizeof(uint32_t));
  backend.copy_in(x.data(), s.samples.data(), s.samples.size() * sizeof(float));
  backend.copy_in(p.data(), perm.data(), perm.size() * sizeof(int32_t));
  const QuantizedActs a = backend.bind_acts(acts.data(), m, f.k);
  backend.quantize_act(
      {.m = m, .format = f},
      {.x = x.data(), .perm = p.as<int32_t>(), .out = a, .row_errors = errors.as<uint32_t>(), .error_tag = 1});
  backend.synchronize();
  COMET_CHECK(a.layout == ActLayout::rows, "calibration runs on the CPU");
  std::vector<float> out(static_cast<size_t>(m) * f.k);
  for (int64_t t = 0; t < m; ++t)
    for (int i = 0; i < f.k; ++i) {
      const float factor = i < f.k1() ? static_cast<float>(a.region1_factors[t]) : 1.0f;
      out[static_cast<size_t>(t * f.k + i)] = static_cast<float>(a.values[t * f.k + i]) * factor * a.scales[t];
    }
  return out;
}

// Sum over rows and channels of weight[channel] * (a - b)^2, channels in [first, last).
double weighted_error(const std::vector<float>& a, const std::vector<float>& b, const std::vector<float>& weight, int k,
                      int first, int last) {
  double error = 0.0;
  for (size_t row = 0; row < a.size(); row += static_cast<size_t>(k))
    for (int i = first; i < last; ++i) {
      const double d = static_cast<double>(a[row + i]) - static_cast<double>(b[row + i]);
      error += static_cast<double>(weight[static_cast<size_t>(i)]) * d * d;
    }
  return error;
}

// Clips that lose least at the outputs; the errors of different channels count as independent.
void search_clips(ActFormat& f, const SiteStatistics& s, const std::vector<int32_t>& perm,
                  const std::vector<float>& exact, const std::vector<float>& column_norms, Backend& backend) {
  float* clips[] = {&f.clip1, &f.clip2};
  for (int region = 2; region >= 1; --region) {
    if ((region == 1 ? f.k1() : f.k2()) == 0) continue;
    float& clip = *clips[region - 1];
    float best = 1.0f;
    double best_error = -1.0;
    for (const float candidate : kClipCandidates) {
      clip = candidate;
      const double error = weighted_error(exact, quantized_samples(s, f, perm, backend), column_norms, f.k, 0, f.k);
      if (best_error < 0.0 || error < best_error) {
        best_error = error;
        best = candidate;
      }
    }
    clip = best;
  }
}

// d = a [m, k] * b [n, k]^T
std::vector<float> multiply(Backend& backend, const std::vector<float>& a, const std::vector<float>& b, int m, int n,
                            int k) {
  DeviceBuffer da(backend, a.size() * sizeof(float)), db(backend, b.size() * sizeof(float)),
      dd(backend, static_cast<size_t>(m) * n * sizeof(float));
  backend.copy_in(da.data(), a.data(), a.size() * sizeof(float));
  backend.copy_in(db.data(), b.data(), b.size() * sizeof(float));
  backend.gemm_w16({.m = m, .n = n, .k = k, .output = GemmOutput::f32},
                   {.a = da.as<float>(), .b = db.data(), .b_dtype = DType::f32, .d = dd.as<float>()});
  backend.synchronize();
  std::vector<float> d(static_cast<size_t>(m) * n);
  backend.copy_out(d.data(), dd.data(), d.size() * sizeof(float));
  return d;
}

}  // namespace

std::vector<int32_t> outliers_first(const std::vector<float>& absmax) {
  std::vector<int32_t> order(absmax.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return absmax[static_cast<size_t>(a)] > absmax[static_cast<size_t>(b)];
  });
  return order;
}

int choose_int8_groups(const std::vector<float>& absmax, int num_groups, const Recipe& recipe) {
  if (recipe.int8_groups >= 0) return std::min(recipe.int8_groups, num_groups);
  const int most = static_cast<int>(std::lround(recipe.int8_share * num_groups));
  if (recipe.outlier_threshold <= 0.0) return most;
  std::vector<float> sorted = absmax;
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<int64_t>(sorted.size() / 2), sorted.end());
  const double limit = recipe.outlier_threshold * static_cast<double>(sorted[sorted.size() / 2]);
  const int64_t outliers =
      std::count_if(absmax.begin(), absmax.end(), [&](float a) { return static_cast<double>(a) > limit; });
  return std::min(most, static_cast<int>((outliers + kGroup - 1) / kGroup));
}

QuantizedSiteResult quantize_site(const std::vector<SiteLinear>& linears, int k_in, const SiteStatistics& s,
                                  const Recipe& recipe, bool fixed_order, Backend& backend, ThreadPool& threads) {
  COMET_CHECK(!s.is_empty() || !recipe.needs_calibration(), "recipe \"{}\" needs statistics", recipe.name);
  QuantizedSiteResult out;
  ActFormat& f = out.format;
  f = {.k_in = k_in,
       .k = padded_channels(k_in),
       .num_int8_groups = 0,
       .bits2 = recipe.act_bits,
       .rotate = recipe.rotate};
  f.num_int8_groups = choose_int8_groups(s.absmax, f.num_groups(), recipe);
  out.perm.resize(static_cast<size_t>(k_in));
  std::iota(out.perm.begin(), out.perm.end(), 0);
  if (recipe.permute && !fixed_order) out.perm = outliers_first(s.absmax);
  out.perm.resize(static_cast<size_t>(f.k), -1);

  std::vector<std::vector<float>> weights;
  std::vector<float> column_norms(static_cast<size_t>(f.k), 0.0f);
  for (const SiteLinear& l : linears) {
    weights.push_back(transform_rows(l.weights.data(), l.n, f, out.perm, threads));
    for (size_t i = 0; i < weights.back().size(); ++i)
      column_norms[i % static_cast<size_t>(f.k)] += weights.back()[i] * weights.back()[i];
  }
  std::vector<float> exact, importance, factor;
  if (!s.is_empty()) {
    exact = transform_rows(s.samples.data(), s.num_samples, f, out.perm, threads);
    if (recipe.search_act_clip) search_clips(f, s, out.perm, exact, column_norms, backend);
    importance.assign(static_cast<size_t>(f.k), 0.0f);
    for (size_t i = 0; i < exact.size(); ++i) importance[i % static_cast<size_t>(f.k)] += exact[i] * exact[i];
    if (recipe.error_feedback)
      factor = error_feedback_factor(transform_gram(s.gram, f, out.perm, threads), f.k, recipe.damp);
  }
  double error = 0.0, norm = 0.0;
  const std::vector<float> seen = s.is_empty() ? std::vector<float>{} : quantized_samples(s, f, out.perm, backend);
  for (size_t i = 0; i < linears.size(); ++i) {
    out.linears.push_back(quantize_rows(linears[i].name, weights[i], linears[i].n, f.k, importance, factor,
                                        recipe.search_weight_clip, threads));
    if (s.is_empty()) continue;
    const std::vector<float> want = multiply(backend, exact, weights[i], s.num_samples, linears[i].n, f.k);
    const std::vector<float> got =
        multiply(backend, seen, dequantize_rows(out.linears.back(), f.k), s.num_samples, linears[i].n, f.k);
    for (size_t j = 0; j < want.size(); ++j) {
      const double d = static_cast<double>(want[j]) - static_cast<double>(got[j]);
      error += d * d;
      norm += static_cast<double>(want[j]) * static_cast<double>(want[j]);
    }
  }
  out.output_error = norm > 0.0 ? std::sqrt(error / norm) : 0.0;
  return out;
}

}  // namespace comet
