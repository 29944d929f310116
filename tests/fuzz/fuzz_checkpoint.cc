// SPDX-License-Identifier: Apache-2.0
// A small quantized checkpoint with some of its bytes changed: the loader takes exactly those that keep the rules of
// quant/weights.h, here once more from their definition. An input is a list of changes, see change().
#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>

#include "fuzz/fuzz.h"
#include "model/checkpoint.h"
#include "text/fixtures.h"

namespace comet {
namespace {

constexpr int kRows = 4, kHidden = 130, kPadded = 256, kGroups = kPadded / kGroup;
const std::string kLinear = "model.layers.0.mlp.gate_proj";

using Tensors = std::map<std::string, OwnedTensor>;

std::string config_text(bool is_quantized) {
  nlohmann::json sites;
  for (const Site site : kSites)
    sites[site_name(0, site)] = {{"n8", 1}, {"bits2", 4}, {"rotate", false}, {"clip1", 1.0}, {"clip2", 1.0}};
  nlohmann::json config = {{"architectures", {"LlamaForCausalLM"}},
                           {"hidden_size", kHidden},
                           {"intermediate_size", kHidden},
                           {"num_hidden_layers", 1},
                           {"num_attention_heads", 1},
                           {"head_dim", kHidden},
                           {"vocab_size", 16}};
  if (is_quantized)
    config["quantization_config"] = {{"quant_method", "comet"},
                                     {"format_version", 1},
                                     {"group_size", kGroup},
                                     {"kv", {{"bits", 4}}},
                                     {"sites", sites}};
  return config.dump();
}

Tensors valid_tensors() {
  Tensors t;
  t[kLinear + ".qweight"] =
      make_tensor(DType::u8, {kRows, kPadded / 2}, std::vector<uint8_t>(kRows * kPadded / 2, 0x7f));
  t[kLinear + ".group_scale"] = make_tensor(DType::u8, {kRows, kGroups}, std::vector<uint8_t>(kRows * kGroups, 12));
  t[kLinear + ".group_zero"] = make_tensor(DType::u8, {kRows, kGroups}, std::vector<uint8_t>(kRows * kGroups, 7));
  t[kLinear + ".channel_scale"] = make_tensor(DType::f32, {kRows}, std::vector<float>(kRows, 0.01f));
  t["model.norm.weight"] = make_tensor(DType::f32, {kHidden}, std::vector<float>(kHidden, 1.0f));
  std::vector<int32_t> perm(kPadded, -1);
  std::iota(perm.begin(), perm.begin() + kHidden, 0);
  for (const Site site : kSites) t[site_name(0, site) + ".act_perm"] = make_tensor(DType::i32, {kPadded}, perm);
  return t;
}

// One change of a tensor: an element becomes another one, two elements change places, or the tensor gets another dtype
// or shape, or goes.
void change(Tensors& tensors, fuzz::Bytes& bytes) {
  auto it = std::next(tensors.begin(), bytes.next() % static_cast<int>(tensors.size()));
  OwnedTensor& t = it->second;
  const size_t width = dtype_bytes(t.dtype), count = t.bytes.size() / width;
  const auto element = [&] { return t.bytes.data() + bytes.next() % std::max<size_t>(count, 1) * width; };
  const uint8_t kind = bytes.next() % 8;
  if (kind < 3 && count > 0) {
    const int32_t value = static_cast<int8_t>(bytes.next());  // small, of either sign
    memcpy(element(), &value, std::min(width, sizeof value));
  } else if (kind == 3 && count > 0) {
    uint8_t value[8];
    for (uint8_t& byte : value) byte = bytes.next();
    memcpy(element(), value, width);
  } else if (kind < 6 && count > 0) {
    uint8_t* const a = element();
    uint8_t* const b = element();
    if (a != b) std::swap_ranges(a, a + width, b);
  } else if (kind == 6) {
    t.dtype = static_cast<DType>(bytes.next() % 8);
    t.shape.assign(bytes.next() % 3, bytes.next() % 4);
    t.bytes.assign(TensorView{nullptr, t.dtype, t.shape}.bytes(), 1);
  } else if (tensors.size() > 1) {
    tensors.erase(it);
  }
}

bool has_form(const Tensors& tensors, const std::string& name, DType dtype, const std::vector<int64_t>& shape) {
  const auto it = tensors.find(name);
  return it != tensors.end() && it->second.dtype == dtype && it->second.shape == shape;
}

bool fits_int8(int s1, int z) {
  if (s1 < 1 || s1 > 16 || z > 15) return false;
  for (int q = 0; q < 16; ++q)
    if ((q - z) * s1 < -128 || (q - z) * s1 > 127) return false;
  return true;
}

bool is_legal_linear(const Tensors& t) {
  if (!has_form(t, kLinear + ".qweight", DType::u8, {kRows, kPadded / 2}) ||
      !has_form(t, kLinear + ".group_scale", DType::u8, {kRows, kGroups}) ||
      !has_form(t, kLinear + ".group_zero", DType::u8, {kRows, kGroups}) ||
      !has_form(t, kLinear + ".channel_scale", DType::f32, {kRows}))
    return false;
  for (size_t i = 0; i < kRows * kGroups; ++i)
    if (!fits_int8(t.at(kLinear + ".group_scale").bytes[i], t.at(kLinear + ".group_zero").bytes[i])) return false;
  float scales[kRows];
  memcpy(scales, t.at(kLinear + ".channel_scale").bytes.data(), sizeof scales);
  return std::all_of(scales, scales + kRows, [](float s) { return std::isfinite(s) && s > 0; });
}

bool is_legal_perm(const Tensors& t, Site site) {
  const std::string name = site_name(0, site) + ".act_perm";
  if (!has_form(t, name, DType::i32, {kPadded})) return false;
  std::vector<int32_t> perm(kPadded);
  memcpy(perm.data(), t.at(name).bytes.data(), kPadded * sizeof(int32_t));
  if (site == Site::down_in)
    for (int i = 0; i < kHidden; ++i)
      if (perm[static_cast<size_t>(i)] != i) return false;
  std::vector<int32_t> used, all(kHidden);
  std::copy_if(perm.begin(), perm.end(), std::back_inserter(used), [](int32_t p) { return p != -1; });
  std::sort(used.begin(), used.end());
  std::iota(all.begin(), all.end(), 0);
  return used == all;
}

void run(std::string_view input) {
  static const TempFolder folder;
  fuzz::Bytes bytes(input);
  const bool is_quantized = bytes.next() % 8 != 7;
  static const Tensors valid = valid_tensors();
  static const std::string configs[] = {config_text(false), config_text(true)};
  Tensors tensors = valid;
  for (int i = 0; i < 64 && !bytes.empty(); ++i) change(tensors, bytes);
  folder.write("config.json", configs[is_quantized]);
  write_safetensors(folder.path() / "model.safetensors", tensors);

  std::optional<Checkpoint> checkpoint;
  const std::string refusal = fuzz::refusal_of([&] { checkpoint = Checkpoint::open(folder.path()); });
  FUZZ_CHECK(checkpoint.has_value() == (is_quantized || !tensors.contains(kLinear + ".qweight")), "{}", refusal);
  if (!checkpoint) return;
  const bool has_norm = fuzz::refusal_of([&] { checkpoint->float_tensor("model.norm.weight", {kHidden}); }).empty();
  const auto norm = tensors.find("model.norm.weight");
  const std::set<DType> floats = {DType::f32, DType::bf16, DType::f16};
  FUZZ_CHECK(has_norm == (norm != tensors.end() && norm->second.shape == std::vector<int64_t>{kHidden} &&
                          floats.contains(norm->second.dtype)));
  if (!is_quantized) return;

  std::optional<LoadedW4ax> linear;
  const std::string why = fuzz::refusal_of([&] { linear = checkpoint->w4ax(kLinear, kRows, kPadded); });
  FUZZ_CHECK(linear.has_value() == is_legal_linear(tensors), "{}", why);
  if (linear)
    FUZZ_CHECK(memcmp(linear->weights.codes, tensors.at(kLinear + ".qweight").bytes.data(), kRows * kPadded / 2) == 0);
  for (const Site site : kSites) {
    const std::string refused = fuzz::refusal_of([&] { checkpoint->act_perm(0, site); });
    FUZZ_CHECK(refused.empty() == is_legal_perm(tensors, site), "{}: {}", to_string(site), refused);
  }
}

}  // namespace
}  // namespace comet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  comet::run({reinterpret_cast<const char*>(data), size});
  return 0;
}
