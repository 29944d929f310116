// SPDX-License-Identifier: Apache-2.0
#include "model/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"

namespace comet {

Checkpoint Checkpoint::open(const std::filesystem::path& folder) {
  Checkpoint c;
  c.folder_ = folder;
  c.config_ = read_model_config(folder);
  c.tensors_ = std::make_shared<Safetensors>(Safetensors::open_folder(folder));
  if (!c.is_quantized())
    for (const auto& [name, view] : c.tensors_->tensors())
      if (name.ends_with(".qweight") || name.ends_with(".qzeros") || name.ends_with(".weight_packed"))
        throw_unsupported("{}: \"{}\" is a quantized tensor, but config.json has no quantization_config of Comet",
                          folder.string(), name);
  return c;
}

LoadedTensor Checkpoint::tensor(const std::string& name, DType dtype, const std::vector<int64_t>& shape) const {
  if (is_dummy()) return make_dummy(name, dtype, shape);
  const TensorView& view = tensors_->at(name);
  if (view.dtype != dtype || view.shape != shape)
    throw_invalid("{}: tensor \"{}\" is {}, expected {}", folder_.string(), name, to_string(view),
                  to_string(TensorView{nullptr, dtype, shape}));
  return {view, tensors_};
}

LoadedTensor Checkpoint::float_tensor(const std::string& name, const std::vector<int64_t>& shape) const {
  if (is_dummy()) return make_dummy(name, DType::bf16, shape);
  const TensorView& view = tensors_->at(name);
  const bool is_float = view.dtype == DType::f32 || view.dtype == DType::bf16 || view.dtype == DType::f16;
  if (!is_float || view.shape != shape)
    throw_invalid("{}: tensor \"{}\" is {}, expected a float tensor {}", folder_.string(), name, to_string(view),
                  to_string(TensorView{nullptr, DType::bf16, shape}).substr(5));
  return {view, tensors_};
}

LoadedW4ax Checkpoint::w4ax(const std::string& name, int n, int k) const {
  LoadedW4ax out;
  const int64_t groups = k / kGroup;
  const LoadedTensor codes = tensor(name + ".qweight", DType::u8, {n, k / 2});
  const LoadedTensor scales = tensor(name + ".group_scale", DType::u8, {n, groups});
  const LoadedTensor zeros = tensor(name + ".group_zero", DType::u8, {n, groups});
  const LoadedTensor channel_scales = tensor(name + ".channel_scale", DType::f32, {n});
  const uint8_t* s1 = static_cast<const uint8_t*>(scales.view.data);
  const uint8_t* z = static_cast<const uint8_t*>(zeros.view.data);
  for (int64_t i = 0; i < n * groups; ++i)
    if (!is_legal_group(s1[i], z[i]))
      throw_invalid(
          "{}: {} row {} group {}: group scale {} with zero {} is outside the rule (scale 1..16, zero {}..{})",
          folder_.string(), name, i / groups, i % groups, s1[i], z[i],
          s1[i] >= 1 && s1[i] <= 16 ? min_group_zero(s1[i]) : 0,
          s1[i] >= 1 && s1[i] <= 16 ? max_group_zero(s1[i]) : 15);
  out.channel_scales = to_f32(channel_scales.view);
  for (int i = 0; i < n; ++i)
    if (!(out.channel_scales[i] > 0.0f) || !std::isfinite(out.channel_scales[i]))
      throw_invalid("{}: {} row {}: channel_scale {} must be finite and above 0", folder_.string(), name, i,
                    out.channel_scales[i]);
  out.weights = {n, k, static_cast<const uint8_t*>(codes.view.data), s1, z, out.channel_scales.data()};
  out.tensors = {codes, scales, zeros};
  return out;
}

std::vector<int32_t> Checkpoint::act_perm(int layer, Site site) const {
  const ActFormat& format = config_.quantization->sites.at(site_name(layer, site));
  const std::string name = site_name(layer, site) + ".act_perm";
  const LoadedTensor t = tensor(name, DType::i32, {format.k});
  std::vector<int32_t> perm(static_cast<size_t>(format.k));
  memcpy(perm.data(), t.view.data, perm.size() * sizeof(int32_t));
  std::vector<bool> seen(static_cast<size_t>(format.k_in), false);
  int used = 0;
  for (size_t i = 0; i < perm.size(); ++i) {
    if (perm[i] == -1) continue;
    if (perm[i] < -1 || perm[i] >= format.k_in)
      throw_invalid("{}: \"{}\"[{}] is {}, expected -1 or a channel below {}", folder_.string(), name, i, perm[i],
                    format.k_in);
    if (seen[perm[i]])
      throw_invalid("{}: \"{}\" is no bijection: channel {} appears twice", folder_.string(), name, perm[i]);
    seen[perm[i]] = true;
    ++used;
  }
  if (used != format.k_in) {
    const auto missing = std::find(seen.begin(), seen.end(), false) - seen.begin();
    throw_invalid("{}: \"{}\" is no bijection: channel {} is missing", folder_.string(), name, missing);
  }
  if (site == Site::down_in)
    for (int i = 0; i < format.k_in; ++i)
      if (perm[i] != i)
        throw_invalid("{}: \"{}\" must be the identity: down_in's order is folded into gate and up", folder_.string(),
                      name);
  return perm;
}

}  // namespace comet
