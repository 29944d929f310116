// SPDX-License-Identifier: Apache-2.0
// A model folder in, a quantized model folder out: layer by layer, never the whole float model in memory.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/backend.h"
#include "quantizer/recipe.h"

namespace comet {

struct SiteSummary {
  int layer = 0;
  Site site = Site::attn_in;
  ActFormat format;
  double output_error = 0.0;  // ||W x - W' x'|| / ||W x|| on calibration data; 0 where there is none
};

struct QuantizeSummary {
  std::vector<SiteSummary> sites;
  double int4_mac_share = 0.0;  // of the decoder layers' multiply-accumulates: 4-bit weights times 4-bit activations
  size_t input_bytes = 0, output_bytes = 0;
};

struct QuantizeJob {
  std::filesystem::path input, output;
  Recipe recipe;
  std::vector<std::vector<int32_t>>
      windows;                             // calibration token ids, all of one length; empty when the recipe needs none
  std::function<void(int, int)> progress;  // layers done, layers
};

// What quantize_model would make of this model: sizes exactly, n8 as far as it does not hang on calibration (an outlier
// threshold can only lower it). Writes nothing.
QuantizeSummary plan_quantization(const QuantizeJob& job);

// The output folder appears under its name only when it is complete. Throws InvalidInput: output exists and is not an
// empty folder, input is quantized already, a weight is not finite (names tensor and index), disk full.
QuantizeSummary quantize_model(const QuantizeJob& job, Backend& backend, ThreadPool& threads);

}  // namespace comet
