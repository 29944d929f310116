// SPDX-License-Identifier: Apache-2.0
// A model folder: its config and its tensors, each checked against the shape and the rules it must obey.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/safetensors.h"

namespace comet {

// A tensor and whatever keeps its bytes alive.
struct LoadedTensor {
  TensorView view;
  std::shared_ptr<const void> owner;
};

// One quantized linear, checked; views stay valid as long as this lives.
struct LoadedW4ax {
  W4axWeights weights;
  std::vector<float> channel_scales;
  std::vector<LoadedTensor> tensors;
};

class Checkpoint {
 public:
  // Throws InvalidInput / Unsupported.
  static Checkpoint open(const std::filesystem::path& folder);
  // Any model shape with random weights, made on demand: for benchmarks. quantization: what to pretend, or none.
  static Checkpoint dummy(ModelConfig config, uint64_t seed);

  const ModelConfig& config() const { return config_; }
  const std::filesystem::path& folder() const { return folder_; }
  bool is_quantized() const { return config_.quantization.has_value(); }
  size_t weight_bytes() const { return tensors_ ? tensors_->total_bytes() : 0; }
  const Safetensors& tensors() const { return *tensors_; }

  // Throws InvalidInput naming tensor, shape and dtype when they are not what they must be.
  LoadedTensor float_tensor(const std::string& name, const std::vector<int64_t>& shape) const;
  LoadedTensor tensor(const std::string& name, DType dtype, const std::vector<int64_t>& shape) const;

  // The output projection of an unquantized model: lm_head.weight, or the embedding when tied.
  std::string lm_head_name() const { return config_.tie_embeddings ? "model.embed_tokens.weight" : "lm_head.weight"; }

  // name: "model.layers.0.mlp.gate_proj". Group parameters and scales are held against the rules of quant/weights.h.
  LoadedW4ax w4ax(const std::string& name, int n, int k) const;
  // [k] of the site; checked to be a bijection on the channels.
  std::vector<int32_t> act_perm(int layer, Site site) const;

 private:
  bool is_dummy() const { return tensors_ == nullptr; }
  LoadedTensor make_dummy(const std::string& name, DType dtype, const std::vector<int64_t>& shape) const;

  std::filesystem::path folder_;
  ModelConfig config_;
  std::shared_ptr<Safetensors> tensors_;
  uint64_t seed_ = 0;
};

}  // namespace comet
