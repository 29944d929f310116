// SPDX-License-Identifier: Apache-2.0
// Runs calibration text through the unquantized layers, one layer at a time, and keeps what the sites saw.
#pragma once

#include <vector>

#include "base/thread_pool.h"
#include "model/model.h"
#include "quantizer/quantize_site.h"

namespace comet {

class Calibration {
 public:
  // windows: token ids, all of one length.
  Calibration(Backend& backend, const Checkpoint& checkpoint, const std::vector<std::vector<int32_t>>& windows,
              const Recipe& recipe, ThreadPool& threads);

  // Statistics of a layer's four sites; moves the hidden states through the layer. Layers in order.
  // o_in is seen as the quantized model will: after V's Hadamard when the recipe has it.
  std::vector<SiteStatistics> run_layer(int layer);

 private:
  void collect(Site site, const float* x, int rows, int channels);

  Backend* backend_;
  const Checkpoint* checkpoint_;
  const Recipe* recipe_;
  ThreadPool* threads_;
  int num_windows_, length_;
  std::vector<float> hidden_;  // [num_windows * length, hidden_size]
  Workspace workspace_;
  RopeBuffers rope_;
  int64_t rows_seen_[4] = {};
  std::vector<SiteStatistics> statistics_;
};

}  // namespace comet
