// SPDX-License-Identifier: Apache-2.0
#include "quantizer/quantize_model.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/check.h"
#include "base/mapped_file.h"
#include "quant/fp32.h"
#include "quantizer/calibration.h"
#include "quantizer/fold.h"
#include "quantizer/output_folder.h"

namespace comet {
namespace {

constexpr const char* kQuantizerVersion = "0.1.0";

// Float weights of a checkpoint, checked to be finite.
std::vector<float> load_finite(const Checkpoint& checkpoint, const std::string& name,
                               const std::vector<int64_t>& shape) {
  std::vector<float> w = to_f32(checkpoint.float_tensor(name, shape).view);
  for (size_t i = 0; i < w.size(); ++i)
    if (!is_finite(w[i]))
      throw_invalid("{}: tensor \"{}\" has {} at index {}", checkpoint.folder().string(), name, w[i], i);
  return w;
}

OwnedTensor float_tensor(DType dtype, const std::vector<float>& values) {
  const std::vector<int64_t> shape = {static_cast<int64_t>(values.size())};
  if (dtype == DType::f32) return make_tensor(dtype, shape, values);
  std::vector<uint16_t> bits;
  bits.reserve(values.size());
  for (const float v : values) bits.push_back(dtype == DType::f16 ? to_f16(v).bits : to_bf16(v).bits);
  return make_tensor(dtype, shape, bits);
}

OwnedTensor bf16_tensor(const std::vector<float>& values) { return float_tensor(DType::bf16, values); }

std::string fingerprint(const std::vector<std::vector<int32_t>>& windows) {
  if (windows.empty()) return "";
  uint64_t hash = 0;
  for (const std::vector<int32_t>& w : windows) hash = XXH64(w.data(), w.size() * sizeof(int32_t), hash);
  return fmt::format("xxh64:{:016x}:{}x{}", hash, windows.size(), windows[0].size());
}

class ModelQuantizer {
 public:
  ModelQuantizer(const QuantizeJob& job, Backend& backend, ThreadPool& threads)
      : job_(job),
        backend_(backend),
        threads_(threads),
        checkpoint_(Checkpoint::open(job.input)),
        recipe_(job.recipe),
        out_(job.output) {
    const ModelConfig& c = checkpoint_.config();
    if (!is_power_of_two(c.head_dim)) recipe_.k_rotate = recipe_.v_rotate = false;  // there is no Hadamard of that size
    if (recipe_.needs_calibration())
      calibration_ = std::make_unique<Calibration>(backend, checkpoint_, job.windows, recipe_, threads);
  }

  QuantizeSummary run() {
    const ModelConfig& c = checkpoint_.config();
    copy("model.embed_tokens.weight", {c.vocab_size, c.hidden_size});
    for (int layer = 0; layer < c.num_layers; ++layer) {
      if (job_.progress) job_.progress(layer, c.num_layers);
      quantize_layer(layer);
    }
    copy("model.norm.weight", {c.hidden_size});
    quantize_head();
    out_.copy_side_files(job_.input);
    write_config();
    summary_.input_bytes = checkpoint_.weight_bytes();
    summary_.output_bytes = out_.commit();
    summary_.int4_mac_share = total_macs_ > 0 ? int4_macs_ / total_macs_ : 0.0;
    if (job_.progress) job_.progress(c.num_layers, c.num_layers);
    return std::move(summary_);
  }

 private:
  std::vector<float> load(const std::string& name, int64_t n, int64_t k) {
    return load_finite(checkpoint_, name + ".weight", {n, k});
  }

  // A tensor that stays as it is.
  void copy(const std::string& name, const std::vector<int64_t>& shape) {
    load_finite(checkpoint_, name, shape);
    const TensorView view = checkpoint_.float_tensor(name, shape).view;
    const uint8_t* p = static_cast<const uint8_t*>(view.data);
    out_.add(name, {view.dtype, view.shape, {p, p + view.bytes()}});
  }

  void quantize_layer(int layer) {
    const ModelConfig& c = checkpoint_.config();
    const std::string prefix = fmt::format("model.layers.{}.", layer), attn = prefix + "self_attn.",
                      mlp = prefix + "mlp.";
    std::vector<SiteStatistics> statistics(kSites.size());
    if (calibration_) statistics = calibration_->run_layer(layer);
    copy(prefix + "input_layernorm.weight", {c.hidden_size});
    copy(prefix + "post_attention_layernorm.weight", {c.hidden_size});

    const int hidden = c.hidden_size, ffn = c.intermediate_size, q_rows = c.num_heads * c.head_dim,
              kv_rows = c.num_kv_heads * c.head_dim;
    std::vector<SiteLinear> qkv = {{attn + "q_proj", q_rows, load(attn + "q_proj", q_rows, hidden)},
                                   {attn + "k_proj", kv_rows, load(attn + "k_proj", kv_rows, hidden)},
                                   {attn + "v_proj", kv_rows, load(attn + "v_proj", kv_rows, hidden)}};
    std::vector<SiteLinear> o = {{attn + "o_proj", hidden, load(attn + "o_proj", hidden, q_rows)}};
    fold_attention(layer, attn, qkv, o, statistics[static_cast<size_t>(Site::attn_in)]);
    quantize(layer, Site::attn_in, qkv, statistics[static_cast<size_t>(Site::attn_in)]);
    quantize(layer, Site::o_in, o, statistics[static_cast<size_t>(Site::o_in)]);

    std::vector<SiteLinear> gate_up = {{mlp + "gate_proj", ffn, load(mlp + "gate_proj", ffn, hidden)},
                                       {mlp + "up_proj", ffn, load(mlp + "up_proj", ffn, hidden)}};
    std::vector<SiteLinear> down = {{mlp + "down_proj", hidden, load(mlp + "down_proj", hidden, ffn)}};
    std::vector<int32_t> order(
        static_cast<size_t>(ffn));  // of the MLP's inner channels, folded into the rows of gate and up
    std::iota(order.begin(), order.end(), 0);
    SiteStatistics& down_statistics = statistics[static_cast<size_t>(Site::down_in)];
    if (recipe_.permute) order = outliers_first(down_statistics.absmax);
    permute_rows(gate_up[0].weights, order, hidden);
    permute_rows(gate_up[1].weights, order, hidden);
    permute_columns(down[0].weights, order);
    permute_statistics(down_statistics, order);
    if (c.mlp_bias) {
      for (const char* name : {"gate_proj", "up_proj"}) {
        std::vector<float> bias = load_finite(checkpoint_, mlp + name + ".bias", {ffn});
        permute_rows(bias, order, 1);
        out_.add(mlp + name + ".bias", bf16_tensor(bias));
      }
      out_.add(mlp + "down_proj.bias", bf16_tensor(load_finite(checkpoint_, mlp + "down_proj.bias", {hidden})));
    }
    quantize(layer, Site::mlp_in, gate_up, statistics[static_cast<size_t>(Site::mlp_in)]);
    quantize(layer, Site::down_in, down, down_statistics);
  }

  // K's smoothing, V's rotation, and the biases of q, k, v and o (or Qwen3's norm gains) with them.
  void fold_attention(int layer, const std::string& attn, std::vector<SiteLinear>& qkv, std::vector<SiteLinear>& o,
                      const SiteStatistics& statistics) {
    const ModelConfig& c = checkpoint_.config();
    std::vector<std::vector<float>> biases;
    if (c.qkv_bias)
      for (const SiteLinear& l : qkv) biases.push_back(load_finite(checkpoint_, l.name + ".bias", {l.n}));
    std::vector<float> lambda(static_cast<size_t>(c.num_kv_heads) * c.head_dim, 1.0f);
    if (recipe_.smooth_k && !c.qk_norm) {
      lambda = key_smoothing(sample_keys(qkv[1], biases, statistics), c.num_kv_heads, c.head_dim);
      scale_rows(qkv[0].weights, lambda, c.num_heads, c.num_kv_heads, c.head_dim, c.hidden_size, false);
      scale_rows(qkv[1].weights, lambda, c.num_kv_heads, c.num_kv_heads, c.head_dim, c.hidden_size, true);
      if (c.qkv_bias) {
        scale_rows(biases[0], lambda, c.num_heads, c.num_kv_heads, c.head_dim, 1, false);
        scale_rows(biases[1], lambda, c.num_kv_heads, c.num_kv_heads, c.head_dim, 1, true);
      }
    }
    if (c.qk_norm) fold_norms(attn, recipe_.smooth_k ? sample_keys(qkv[1], biases, statistics) : std::vector<float>());
    if (recipe_.v_rotate) {
      rotate_value_rows(qkv[2].weights, c.head_dim, c.hidden_size);
      rotate_output_columns(o[0].weights, c.head_dim);
      if (c.qkv_bias) rotate_value_rows(biases[2], c.head_dim, 1);
    }
    for (size_t i = 0; i < biases.size(); ++i) out_.add(qkv[i].name + ".bias", bf16_tensor(biases[i]));
    if (c.o_bias) out_.add(o[0].name + ".bias", bf16_tensor(load_finite(checkpoint_, o[0].name + ".bias", {o[0].n})));
  }

  // Qwen3: all heads share the gains behind the norms, and so the factors. They are powers of two, so that gains stay
  // exact in their dtype, and of small exponents, so that fp16 holds them. keys: in front of the norm, [samples,
  // kv_heads
  // * head_dim]; empty: no smoothing.
  void fold_norms(const std::string& attn, const std::vector<float>& keys) {
    const ModelConfig& c = checkpoint_.config();
    std::vector<float> q_gain = load_finite(checkpoint_, attn + "q_norm.weight", {c.head_dim}),
                       k_gain = load_finite(checkpoint_, attn + "k_norm.weight", {c.head_dim});
    if (!keys.empty()) {
      std::vector<float> normed(keys.size());
      backend_.rms_norm({.m = static_cast<int>(keys.size()) / c.head_dim,
                         .hidden = c.head_dim,
                         .x = keys.data(),
                         .gain = k_gain.data(),
                         .gain_dtype = DType::f32,
                         .eps = c.rms_norm_eps,
                         .out = normed.data()});
      backend_.synchronize();
      const std::vector<float> lambda = key_smoothing(normed, 1, c.head_dim);
      for (int i = 0; i < c.head_dim; ++i) {
        const float exact = std::log2(lambda[static_cast<size_t>(i)]);
        const int exponent = std::clamp(static_cast<int>(std::lround(exact)), -6, 6);
        q_gain[static_cast<size_t>(i)] = std::ldexp(q_gain[static_cast<size_t>(i)], exponent);
        k_gain[static_cast<size_t>(i)] = std::ldexp(k_gain[static_cast<size_t>(i)], -exponent);
      }
    }
    auto add = [&](const std::string& name, const std::vector<float>& gain) {
      out_.add(attn + name, float_tensor(checkpoint_.float_tensor(attn + name, {c.head_dim}).view.dtype, gain));
    };
    add("q_norm.weight", q_gain);
    add("k_norm.weight", k_gain);
  }

  // K before RoPE of the calibration samples, [samples, kv_heads * head_dim].
  std::vector<float> sample_keys(const SiteLinear& k_proj, const std::vector<std::vector<float>>& biases,
                                 const SiteStatistics& s) {
    std::vector<float> keys(static_cast<size_t>(s.num_samples) * k_proj.n);
    backend_.gemm_w16(
        {.m = s.num_samples, .n = k_proj.n, .k = checkpoint_.config().hidden_size, .output = GemmOutput::f32},
        {.a = s.samples.data(),
         .b = k_proj.weights.data(),
         .b_dtype = DType::f32,
         .bias = biases.empty() ? nullptr : biases[1].data(),
         .d = keys.data()});
    backend_.synchronize();
    return keys;
  }

  static void permute_statistics(SiteStatistics& s, const std::vector<int32_t>& order) {
    if (s.is_empty()) return;
    permute_rows(s.absmax, order, 1);
    permute_columns(s.samples, order);
    if (s.gram.empty()) return;
    permute_rows(s.gram, order, static_cast<int>(order.size()));
    permute_columns(s.gram, order);
  }

  void quantize(int layer, Site site, const std::vector<SiteLinear>& linears, const SiteStatistics& statistics) {
    const int channels = checkpoint_.config().site_channels(site);
    const QuantizedSiteResult r =
        quantize_site(linears, channels, statistics, recipe_, site == Site::down_in, backend_, threads_);
    const ActFormat& f = r.format;
    const int64_t groups = f.num_groups();
    out_.add(site_name(layer, site) + ".act_perm", make_tensor(DType::i32, {f.k}, r.perm));
    for (const QuantizedLinear& l : r.linears) {
      out_.add(l.name + ".qweight", make_tensor(DType::u8, {l.n, f.k / 2}, l.codes));
      out_.add(l.name + ".group_scale", make_tensor(DType::u8, {l.n, groups}, l.group_scales));
      out_.add(l.name + ".group_zero", make_tensor(DType::u8, {l.n, groups}, l.group_zeros));
      out_.add(l.name + ".channel_scale", make_tensor(DType::f32, {l.n}, l.channel_scales));
      total_macs_ += static_cast<double>(l.n) * f.k;
      if (f.bits2 == 4) int4_macs_ += static_cast<double>(l.n) * f.k2();
    }
    formats_[site_name(layer, site)] = f;
    summary_.sites.push_back({layer, site, f, r.output_error});
  }

  // s8 per channel, K padded.
  void quantize_head() {
    const ModelConfig& c = checkpoint_.config();
    const std::vector<float> w = load_finite(checkpoint_, checkpoint_.lm_head_name(), {c.vocab_size, c.hidden_size});
    const int64_t k = padded_channels(c.hidden_size);
    std::vector<int8_t> codes(static_cast<size_t>(c.vocab_size * k), 0);
    std::vector<float> scales(static_cast<size_t>(c.vocab_size), 1.0f);
    for (int64_t n = 0; n < c.vocab_size; ++n) {
      const float* row = &w[static_cast<size_t>(n * c.hidden_size)];
      float amax = 0.0f;
      for (int i = 0; i < c.hidden_size; ++i) amax = std::max(amax, std::fabs(row[i]));
      const float scale = amax / 127.0f;
      if (!(scale > 0.0f)) continue;
      scales[static_cast<size_t>(n)] = scale;
      for (int i = 0; i < c.hidden_size; ++i)
        codes[static_cast<size_t>(n * k + i)] = static_cast<int8_t>(clampf(rne(row[i] / scale), -127.0f, 127.0f));
    }
    out_.add("lm_head.weight", make_tensor(DType::i8, {c.vocab_size, k}, codes));
    out_.add("lm_head.channel_scale", make_tensor(DType::f32, {c.vocab_size}, scales));
  }

  void write_config() {
    QuantizationConfig q;
    q.kv = {.bits = recipe_.kv_bits,
            .k_rotate = recipe_.k_rotate,
            .v_rotate = recipe_.v_rotate,
            .smooth = recipe_.smooth_k};
    q.sites = formats_;
    q.recipe_json = to_json(recipe_).dump();
    q.calibration = fingerprint(job_.windows);
    q.quantizer_version = kQuantizerVersion;
    nlohmann::ordered_json config = nlohmann::ordered_json::parse(read_file(job_.input / "config.json"));
    config["quantization_config"] = nlohmann::ordered_json::parse(to_json(q).dump());
    out_.write_file("config.json", config.dump(2) + "\n");
  }

  const QuantizeJob& job_;
  Backend& backend_;
  ThreadPool& threads_;
  Checkpoint checkpoint_;
  Recipe recipe_;
  OutputFolder out_;
  std::unique_ptr<Calibration> calibration_;
  std::map<std::string, ActFormat> formats_;
  QuantizeSummary summary_;
  double total_macs_ = 0.0, int4_macs_ = 0.0;
};

}  // namespace

QuantizeSummary quantize_model(const QuantizeJob& job, Backend& backend, ThreadPool& threads) {
  if (read_model_config(job.input).quantization)
    throw_invalid("{} is quantized already; quantize the original model", job.input.string());
  return ModelQuantizer(job, backend, threads).run();
}

}  // namespace comet
