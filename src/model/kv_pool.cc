// SPDX-License-Identifier: Apache-2.0
#include "model/kv_pool.h"

namespace comet {
namespace {

size_t layer_block_bytes(const Backend& backend, const ModelConfig& c, const KvFormat& kv) {
  return backend.kv_block_bytes({.num_kv_heads = c.num_kv_heads, .head_dim = c.head_dim, .bits = kv.bits});
}

}  // namespace

KvPool::KvPool(Backend& backend, const ModelConfig& config, const KvFormat& kv, int num_blocks)
    : num_blocks_(num_blocks) {
  COMET_CHECK(num_blocks >= 1, "num_blocks = {}", num_blocks);
  for (int i = 0; i < config.num_layers; ++i)
    layers_.emplace_back(backend, layer_block_bytes(backend, config, kv) * static_cast<size_t>(num_blocks));
}

size_t KvPool::bytes() const {
  size_t total = 0;
  for (const DeviceBuffer& layer : layers_) total += layer.bytes();
  return total;
}

size_t KvPool::block_bytes(const Backend& backend, const ModelConfig& config, const KvFormat& kv) {
  return layer_block_bytes(backend, config, kv) * static_cast<size_t>(config.num_layers);
}

}  // namespace comet
