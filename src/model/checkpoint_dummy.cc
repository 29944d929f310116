// SPDX-License-Identifier: Apache-2.0
// Random weights of any shape: plausible in size, cheap to make, the same for a seed.
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "model/checkpoint.h"

namespace comet {
namespace {

struct SplitMix {
  uint64_t state;
  uint64_t next() {
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
};

uint64_t hash_name(const std::string& name, uint64_t seed) {
  uint64_t h = 0xcbf29ce484222325u ^ seed;
  for (const char c : name) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return h;
}

}  // namespace

Checkpoint Checkpoint::dummy(ModelConfig config, uint64_t seed) {
  Checkpoint c;
  c.config_ = std::move(config);
  c.seed_ = seed;
  return c;
}

LoadedTensor Checkpoint::make_dummy(const std::string& name, DType dtype, const std::vector<int64_t>& shape) const {
  LoadedTensor t{{nullptr, dtype, shape}, nullptr};
  auto bytes = std::make_shared<std::vector<uint8_t>>(t.view.bytes());
  t.view.data = bytes->data();
  const size_t count = static_cast<size_t>(t.view.num_elements());
  SplitMix random{hash_name(name, seed_)};
  auto put = [&](size_t i, auto value) { memcpy(bytes->data() + i * sizeof(value), &value, sizeof(value)); };
  auto unit = [&] {
    return static_cast<float>(static_cast<int64_t>(random.next() >> 40) - (1 << 23)) * 0x1p-23f;
  };  // -1..1
  if (name.ends_with(".act_perm")) {
    const int channels = config_.quantization->sites.at(name.substr(0, name.size() - strlen(".act_perm"))).k_in;
    for (size_t i = 0; i < count; ++i)
      put(i, i < static_cast<size_t>(channels) ? static_cast<int32_t>(i) : int32_t{-1});
  } else if (name.ends_with(".group_scale")) {
    for (size_t i = 0; i < count; ++i) put(i, static_cast<uint8_t>(12 + random.next() % 3));
  } else if (name.ends_with(".group_zero")) {
    for (size_t i = 0; i < count; ++i) put(i, static_cast<uint8_t>(7 + random.next() % 2));
  } else if (name.ends_with("_scale")) {
    for (size_t i = 0; i < count; ++i) put(i, 0.02f / 50.0f);
  } else if (dtype == DType::bf16) {
    const bool is_gain = shape.size() == 1 && name.find("norm") != std::string::npos;
    for (size_t i = 0; i < count; ++i) put(i, to_bf16(is_gain ? 1.0f + 0.1f * unit() : 0.035f * unit()));
  } else if (dtype == DType::i8) {
    for (size_t i = 0; i < count; ++i) put(i, static_cast<int8_t>(static_cast<int>(random.next() % 255) - 127));
  } else {
    COMET_CHECK(dtype == DType::u8, "no dummy for {} {}", name, to_string(t.view));
    for (size_t i = 0; i < count / 8; ++i) put(i, random.next());
    for (size_t i = count / 8 * 8; i < count; ++i) put(i, static_cast<uint8_t>(random.next()));
  }
  t.owner = bytes;
  return t;
}

}  // namespace comet
