// SPDX-License-Identifier: Apache-2.0
#include "model/decoder_layer.h"

#include "base/check.h"

namespace comet {
namespace {

// Places of an error inside a layer: the four sites, then the attention's q, k and v.
constexpr int kPlaceKv = 4;
constexpr int kNumPlaces = 8;

DeviceBuffer upload_tensor(Backend& backend, const LoadedTensor& t) {
  DeviceBuffer buffer(backend, t.view.bytes());
  backend.copy_in(buffer.data(), t.view.data, t.view.bytes());
  return buffer;
}

}  // namespace

uint32_t error_tag(int layer, int place) { return static_cast<uint32_t>(layer * kNumPlaces + place + 1); }

std::string describe_error_tag(uint32_t tag) {
  const int layer = static_cast<int>(tag - 1) / kNumPlaces, place = static_cast<int>(tag - 1) % kNumPlaces;
  if (place == kPlaceKv) return fmt::format("a non-finite value in q, k or v of model.layers.{}.self_attn", layer);
  if (place > kPlaceKv) return "a non-finite value in the logits or the input of lm_head";
  return fmt::format("a non-finite value at {}", site_name(layer, kSites[place]));
}

RopeBuffers::RopeBuffers(Backend& backend, const ModelConfig& config, int num_positions) {
  const RopeTable table = make_rope_table(config.rope, config.head_dim, num_positions);
  cos = upload(backend, table.cos);
  sin = upload(backend, table.sin);
}

DecoderLayer::DecoderLayer(Backend& backend, const Checkpoint& checkpoint, int layer, const KvFormat& kv)
    : backend_(&backend), config_(&checkpoint.config()), layer_(layer), kv_(kv) {
  const ModelConfig& c = *config_;
  const std::string prefix = fmt::format("model.layers.{}.", layer), attn = prefix + "self_attn.",
                    mlp = prefix + "mlp.";
  const LoadedTensor gain = checkpoint.float_tensor(prefix + "input_layernorm.weight", {c.hidden_size});
  const LoadedTensor post = checkpoint.float_tensor(prefix + "post_attention_layernorm.weight", {c.hidden_size});
  gain_dtype_ = gain.view.dtype;
  auto upload_gain = [&](const LoadedTensor& t) {
    if (t.view.dtype != gain_dtype_) throw_unsupported("{}layernorm gains of different dtypes", prefix);
    return upload_tensor(backend, t);
  };
  input_gain_ = upload_gain(gain);
  post_attention_gain_ = upload_gain(post);
  if (c.qk_norm) {
    q_norm_ = upload_gain(checkpoint.float_tensor(attn + "q_norm.weight", {c.head_dim}));
    k_norm_ = upload_gain(checkpoint.float_tensor(attn + "k_norm.weight", {c.head_dim}));
  }
  const int q_rows = c.num_heads * c.head_dim, kv_rows = c.num_kv_heads * c.head_dim;
  const std::vector<LinearPart> qkv = {
      {attn + "q_proj", q_rows}, {attn + "k_proj", kv_rows}, {attn + "v_proj", kv_rows}};
  const std::vector<LinearPart> o = {{attn + "o_proj", c.hidden_size}};
  const std::vector<LinearPart> gate_up = {{mlp + "gate_proj", c.intermediate_size},
                                           {mlp + "up_proj", c.intermediate_size}};
  const std::vector<LinearPart> down = {{mlp + "down_proj", c.hidden_size}};
  auto load = [&](Site site, const std::vector<LinearPart>& parts, bool has_bias) {
    if (!checkpoint.is_quantized())
      return Linear::load_w16(backend, checkpoint, parts, c.site_channels(site), has_bias);
    QuantizedSite& s = sites_[static_cast<int>(site)];
    s.format = c.quantization->sites.at(site_name(layer, site));
    const std::vector<int32_t> perm = checkpoint.act_perm(layer, site);
    s.perm = DeviceBuffer(backend, perm.size() * sizeof(int32_t));
    backend.copy_in(s.perm.data(), perm.data(), perm.size() * sizeof(int32_t));
    return Linear::load_w4ax(backend, checkpoint, parts, s.format.k, has_bias);
  };
  qkv_ = load(Site::attn_in, qkv, c.qkv_bias);
  o_ = load(Site::o_in, o, c.o_bias);
  gate_up_ = load(Site::mlp_in, gate_up, c.mlp_bias);
  down_ = load(Site::down_in, down, c.mlp_bias);
}

void DecoderLayer::forward(const LayerPass& pass) const {
  if (qkv_.scheme() == Linear::Scheme::w16)
    forward_w16(pass);
  else
    forward_quantized(pass);
}

QuantizedActs DecoderLayer::quantize(const LayerPass& pass, Site site, ActSource source, const void* x,
                                     const DeviceBuffer* gain) const {
  const QuantizedSite& s = sites_[static_cast<int>(site)];
  const int m = pass.batch.num_tokens;
  const QuantizedActs acts = pass.workspace->acts(m, s.format.k);
  backend_->quantize_act({.m = m, .format = s.format, .source = source},
                         {.x = x,
                          .gain = gain != nullptr ? gain->data() : nullptr,
                          .gain_dtype = gain_dtype_,
                          .eps = config_->rms_norm_eps,
                          .perm = s.perm.as<int32_t>(),
                          .out = acts,
                          .row_errors = pass.workspace->row_errors.as<uint32_t>(),
                          .error_tag = error_tag(layer_, static_cast<int>(site))});
  return acts;
}

void DecoderLayer::attend(const LayerPass& pass, DType dtype) const {
  const ModelConfig& c = *config_;
  Workspace& w = *pass.workspace;
  const KvShape kv{.num_kv_heads = c.num_kv_heads, .head_dim = c.head_dim, .bits = kv_.bits};
  const uint32_t tag = error_tag(layer_, kPlaceKv);
  backend_->rope_append({.num_heads = c.num_heads, .kv = kv, .k_rotate = kv_.k_rotate},
                        {.qkv = w.qkv.data(),
                         .qkv_dtype = dtype,
                         .cos = pass.rope->cos.as<float>(),
                         .sin = pass.rope->sin.as<float>(),
                         .q_norm = q_norm_.data(),
                         .k_norm = k_norm_.data(),
                         .norm_dtype = gain_dtype_,
                         .norm_eps = c.rms_norm_eps,
                         .batch = pass.batch,
                         .cache = pass.cache,
                         .q = w.q.as<float>(),
                         .row_errors = w.row_errors.as<uint32_t>(),
                         .error_tag = tag});
  backend_->attention({.num_heads = c.num_heads, .kv = kv, .out_dtype = dtype, .window = c.window(layer_)},
                      {.q = w.q.as<float>(),
                       .batch = pass.batch,
                       .cache = pass.cache,
                       .out = w.attn.data(),
                       .row_errors = w.row_errors.as<uint32_t>(),
                       .error_tag = tag});
}

void DecoderLayer::forward_quantized(const LayerPass& pass) const {
  Workspace& w = *pass.workspace;
  const int m = pass.batch.num_tokens;
  auto n8 = [&](Site site) { return sites_[static_cast<int>(site)].format.num_int8_groups; };
  QuantizedActs acts = quantize(pass, Site::attn_in, ActSource::rms_norm, w.residual.data(), &input_gain_);
  qkv_.run(m, acts, n8(Site::attn_in), GemmOutput::bf16, w.qkv.data());
  attend(pass, DType::bf16);
  acts = quantize(pass, Site::o_in, ActSource::bf16, w.attn.data(), nullptr);
  o_.run(m, acts, n8(Site::o_in), GemmOutput::add_f32, w.residual.data());
  acts = quantize(pass, Site::mlp_in, ActSource::rms_norm, w.residual.data(), &post_attention_gain_);
  gate_up_.run(m, acts, n8(Site::mlp_in), GemmOutput::bf16, w.gate_up.data());
  acts = quantize(pass, Site::down_in, ActSource::silu_mul, w.gate_up.data(), nullptr);
  down_.run(m, acts, n8(Site::down_in), GemmOutput::add_f32, w.residual.data());
}

void DecoderLayer::forward_w16(const LayerPass& pass) const {
  const ModelConfig& c = *config_;
  Workspace& w = *pass.workspace;
  const int m = pass.batch.num_tokens;
  auto norm = [&](const DeviceBuffer& gain) {
    backend_->rms_norm({.m = m,
                        .hidden = c.hidden_size,
                        .x = w.residual.as<float>(),
                        .gain = gain.data(),
                        .gain_dtype = gain_dtype_,
                        .eps = c.rms_norm_eps,
                        .out = w.x.as<float>()});
  };
  auto tap = [&](Site site, const DeviceBuffer& x) {
    if (pass.tap != nullptr && *pass.tap) (*pass.tap)(layer_, site, x.as<float>(), m, c.site_channels(site));
  };
  norm(input_gain_);
  tap(Site::attn_in, w.x);
  qkv_.run(m, w.x.as<float>(), GemmOutput::f32, w.qkv.as<float>());
  attend(pass, DType::f32);
  tap(Site::o_in, w.attn);
  o_.run(m, w.attn.as<float>(), GemmOutput::add_f32, w.residual.as<float>());
  norm(post_attention_gain_);
  tap(Site::mlp_in, w.x);
  gate_up_.run(m, w.x.as<float>(), GemmOutput::f32, w.gate_up.as<float>());
  backend_->silu_mul({.m = m, .width = c.intermediate_size, .gate_up = w.gate_up.as<float>(), .out = w.x.as<float>()});
  tap(Site::down_in, w.x);
  down_.run(m, w.x.as<float>(), GemmOutput::add_f32, w.residual.as<float>());
}

}  // namespace comet
