// SPDX-License-Identifier: Apache-2.0
// One linear layer on a backend: w4ax, w8a8 (lm_head) or w16 (unquantized), with parts fused along n.
#pragma once

#include <string>
#include <vector>

#include "kernels/backend.h"
#include "model/checkpoint.h"

namespace comet {

struct LinearPart {
  std::string name;  // "model.layers.0.self_attn.q_proj"
  int n = 0;
};

class Linear {
 public:
  enum class Scheme { w4ax, w8a8, w16 };

  // Quantized decoder linear: k padded channels of its site.
  static Linear load_w4ax(Backend& backend, const Checkpoint& checkpoint, const std::vector<LinearPart>& parts, int k,
                          bool has_bias);
  // Unquantized: k channels, weights as stored.
  static Linear load_w16(Backend& backend, const Checkpoint& checkpoint, const std::vector<LinearPart>& parts, int k,
                         bool has_bias);
  // lm_head of a quantized checkpoint: n = vocabulary, k = padded hidden size.
  static Linear load_w8a8(Backend& backend, const Checkpoint& checkpoint, int n, int k);
  // weight_name: a tensor [n, k]; for a tied or plain output projection.
  static Linear load_w16_tensor(Backend& backend, const Checkpoint& checkpoint, const std::string& weight_name, int n,
                                int k);

  Scheme scheme() const { return scheme_; }
  int n() const { return n_; }
  int k() const { return k_; }
  size_t bytes() const { return weights_.bytes() + channel_scales_.bytes() + bias_.bytes(); }

  void run(int m, const QuantizedActs& a, int num_int8_groups, GemmOutput output, void* d) const;
  void run(int m, const float* a, GemmOutput output, float* d) const;  // w16

 private:
  Backend* backend_ = nullptr;
  Scheme scheme_ = Scheme::w16;
  int n_ = 0, k_ = 0;
  DType dtype_ = DType::bf16;  // w16
  PackedWeights packed_;
  DeviceBuffer weights_, channel_scales_, bias_;
};

// Copies host floats to the backend.
DeviceBuffer upload(Backend& backend, const std::vector<float>& values);

}  // namespace comet
