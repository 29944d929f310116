// SPDX-License-Identifier: Apache-2.0
// The memory of all kv_blocks: one buffer a layer, block b of every layer belongs together.
#pragma once

#include <vector>

#include "kernels/backend.h"
#include "model/config.h"

namespace comet {

class KvPool {
 public:
  KvPool(Backend& backend, const ModelConfig& config, const KvFormat& kv, int num_blocks);

  int num_blocks() const { return num_blocks_; }
  void* layer(int index) const { return layers_[static_cast<size_t>(index)].data(); }
  size_t bytes() const;

  // Bytes of one kv_block over all layers.
  static size_t block_bytes(const Backend& backend, const ModelConfig& config, const KvFormat& kv);

 private:
  int num_blocks_;
  std::vector<DeviceBuffer> layers_;
};

}  // namespace comet
