// SPDX-License-Identifier: Apache-2.0
// One decoder layer, quantized or not, with a tap at the inputs of its linears for calibration.
#pragma once

#include <functional>

#include "model/linear.h"
#include "model/workspace.h"

namespace comet {

// Called on unquantized layers with the input of a site: f32 [rows, channels] in backend memory, valid during the call.
using Tap = std::function<void(int layer, Site site, const float* x, int rows, int channels)>;

// The rotary table in backend memory.
struct RopeBuffers {
  RopeBuffers(Backend& backend, const ModelConfig& config, int num_positions);
  DeviceBuffer cos, sin;  // f32 [num_positions, head_dim / 2]
};

// What a layer works on besides its weights.
struct LayerPass {
  BatchView batch;
  Workspace* workspace = nullptr;
  const RopeBuffers* rope = nullptr;
  void* cache = nullptr;  // this layer's kv_blocks
  const Tap* tap = nullptr;
};

// Which layer and site an error tag names; 0 is "no error".
uint32_t error_tag(int layer, int place);
// "a non-finite value at model.layers.3.mlp_in"
std::string describe_error_tag(uint32_t tag);

class DecoderLayer {
 public:
  // kv: how this layer's cache stores K and V.
  DecoderLayer(Backend& backend, const Checkpoint& checkpoint, int layer, const KvFormat& kv);

  // workspace.residual in, workspace.residual out.
  void forward(const LayerPass& pass) const;
  size_t weight_bytes() const { return qkv_.bytes() + o_.bytes() + gate_up_.bytes() + down_.bytes(); }

 private:
  // One site of a quantized layer.
  struct QuantizedSite {
    ActFormat format;
    DeviceBuffer perm;  // i32 [k]
  };

  void forward_quantized(const LayerPass& pass) const;
  void forward_w16(const LayerPass& pass) const;
  // Norm or activation fused with quantization; x is the source's input.
  QuantizedActs quantize(const LayerPass& pass, Site site, ActSource source, const void* x,
                         const DeviceBuffer* gain) const;
  void attend(const LayerPass& pass, DType dtype) const;

  Backend* backend_;
  const ModelConfig* config_;
  int layer_;
  KvFormat kv_;
  DType gain_dtype_ = DType::bf16;
  DeviceBuffer input_gain_, post_attention_gain_, q_norm_, k_norm_;
  QuantizedSite sites_[4];
  Linear qkv_, o_, gate_up_, down_;
};

}  // namespace comet
