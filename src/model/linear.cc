// SPDX-License-Identifier: Apache-2.0
#include "model/linear.h"

#include <cmath>
#include <cstring>

#include "base/check.h"

namespace comet {
namespace {

int total_rows(const std::vector<LinearPart>& parts) {
  int n = 0;
  for (const LinearPart& part : parts) n += part.n;
  return n;
}

std::vector<float> load_bias(const Checkpoint& checkpoint, const std::vector<LinearPart>& parts) {
  std::vector<float> bias;
  for (const LinearPart& part : parts) {
    const std::vector<float> values = to_f32(checkpoint.float_tensor(part.name + ".bias", {part.n}).view);
    for (size_t i = 0; i < values.size(); ++i)
      if (!std::isfinite(values[i]))
        throw_invalid("{}: {}.bias[{}] is not finite", checkpoint.folder().string(), part.name, i);
    bias.insert(bias.end(), values.begin(), values.end());
  }
  return bias;
}

}  // namespace

DeviceBuffer upload(Backend& backend, const std::vector<float>& values) {
  DeviceBuffer buffer(backend, values.size() * sizeof(float));
  backend.copy_in(buffer.data(), values.data(), values.size() * sizeof(float));
  return buffer;
}

Linear Linear::load_w4ax(Backend& backend, const Checkpoint& checkpoint, const std::vector<LinearPart>& parts, int k,
                         bool has_bias) {
  Linear linear;
  linear.backend_ = &backend;
  linear.scheme_ = Scheme::w4ax;
  linear.n_ = total_rows(parts);
  linear.k_ = k;
  std::vector<uint8_t> codes, scales, zeros;
  std::vector<float> channel_scales;
  LoadedW4ax only;  // a single part is packed straight from the mapped file
  W4axWeights whole;
  for (const LinearPart& part : parts) {
    LoadedW4ax loaded = checkpoint.w4ax(part.name, part.n, k);
    channel_scales.insert(channel_scales.end(), loaded.channel_scales.begin(), loaded.channel_scales.end());
    if (parts.size() == 1) {
      only = std::move(loaded);
      whole = only.weights;
      break;
    }
    const int64_t n = part.n;
    codes.insert(codes.end(), loaded.weights.codes, loaded.weights.codes + n * (k / 2));
    scales.insert(scales.end(), loaded.weights.group_scales, loaded.weights.group_scales + n * (k / kGroup));
    zeros.insert(zeros.end(), loaded.weights.group_zeros, loaded.weights.group_zeros + n * (k / kGroup));
  }
  if (parts.size() > 1) whole = {linear.n_, k, codes.data(), scales.data(), zeros.data(), channel_scales.data()};
  linear.packed_ = backend.pack_w4ax(whole);
  linear.weights_ = DeviceBuffer(backend, linear.packed_);
  linear.channel_scales_ = upload(backend, channel_scales);
  if (has_bias) linear.bias_ = upload(backend, load_bias(checkpoint, parts));
  return linear;
}

Linear Linear::load_w16(Backend& backend, const Checkpoint& checkpoint, const std::vector<LinearPart>& parts, int k,
                        bool has_bias) {
  Linear linear;
  linear.backend_ = &backend;
  linear.n_ = total_rows(parts);
  linear.k_ = k;
  std::vector<LoadedTensor> weights;
  for (const LinearPart& part : parts) {
    weights.push_back(checkpoint.float_tensor(part.name + ".weight", {part.n, k}));
    if (weights.back().view.dtype != weights.front().view.dtype)
      throw_unsupported("{}: {} and {} have different dtypes ({}, {})", checkpoint.folder().string(),
                        parts.front().name, part.name, to_string(weights.front().view.dtype),
                        to_string(weights.back().view.dtype));
  }
  linear.dtype_ = weights.front().view.dtype;
  size_t bytes = 0;
  for (const LoadedTensor& w : weights) bytes += w.view.bytes();
  linear.weights_ = DeviceBuffer(backend, bytes);
  char* at = linear.weights_.as<char>();
  for (const LoadedTensor& w : weights) {
    backend.copy_in(at, w.view.data, w.view.bytes());
    at += w.view.bytes();
  }
  if (has_bias) linear.bias_ = upload(backend, load_bias(checkpoint, parts));
  return linear;
}

Linear Linear::load_w16_tensor(Backend& backend, const Checkpoint& checkpoint, const std::string& weight_name, int n,
                               int k) {
  const std::string suffix = ".weight";
  COMET_CHECK(weight_name.ends_with(suffix), "{}", weight_name);
  return load_w16(backend, checkpoint, {{weight_name.substr(0, weight_name.size() - suffix.size()), n}}, k, false);
}

Linear Linear::load_w8a8(Backend& backend, const Checkpoint& checkpoint, int n, int k) {
  Linear linear;
  linear.backend_ = &backend;
  linear.scheme_ = Scheme::w8a8;
  linear.n_ = n;
  linear.k_ = k;
  const LoadedTensor codes = checkpoint.tensor("lm_head.weight", DType::i8, {n, k});
  const std::vector<float> scales = to_f32(checkpoint.tensor("lm_head.channel_scale", DType::f32, {n}).view);
  for (int i = 0; i < n; ++i)
    if (!(scales[i] > 0.0f) || !std::isfinite(scales[i]))
      throw_invalid("{}: lm_head row {}: channel_scale {} must be finite and above 0", checkpoint.folder().string(), i,
                    scales[i]);
  const int8_t* values = static_cast<const int8_t*>(codes.view.data);
  for (int64_t i = 0; i < int64_t{n} * k; ++i)
    if (values[i] == -128)
      throw_invalid("{}: lm_head row {}: code -128 is outside -127..127", checkpoint.folder().string(), i / k);
  linear.packed_ = backend.pack_w8({n, k, values, scales.data()});
  linear.weights_ = DeviceBuffer(backend, linear.packed_);
  linear.channel_scales_ = upload(backend, scales);
  return linear;
}

void Linear::run(int m, const QuantizedActs& a, int num_int8_groups, GemmOutput output, void* d) const {
  const GemmProblem problem{.m = m, .n = n_, .k = k_, .num_int8_groups = num_int8_groups, .output = output};
  const GemmArgs args{
      .a = a, .b = packed_, .channel_scales = channel_scales_.as<float>(), .bias = bias_.as<float>(), .d = d};
  if (scheme_ == Scheme::w4ax)
    backend_->gemm_w4ax(problem, args);
  else
    backend_->gemm_w8a8(problem, args);
}

void Linear::run(int m, const float* a, GemmOutput output, float* d) const {
  const GemmProblem problem{.m = m, .n = n_, .k = k_, .output = output};
  backend_->gemm_w16(problem, {.a = a, .b = weights_.data(), .b_dtype = dtype_, .bias = bias_.as<float>(), .d = d});
}

}  // namespace comet
