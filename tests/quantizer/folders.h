// SPDX-License-Identifier: Apache-2.0
// Temporary folders, tiny models from tests/goldens, and what an expression throws.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "model/safetensors.h"
#include "quantizer/quantize_model.h"

namespace comet {

namespace fs = std::filesystem;

class TemporaryFolder {
 public:
  TemporaryFolder() {
    static int count = 0;
    path_ =
        fs::path(testing::TempDir()) / ("comet-quantizer-" + std::to_string(getpid()) + "-" + std::to_string(count++));
    fs::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  fs::path operator/(const std::string& name) const { return path_ / name; }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

inline fs::path golden_model(const std::string& name) {
  return fs::path(COMET_SOURCE_DIR) / "tests/goldens/models" / name;
}

// What `f` throws as InvalidInput.
inline std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const InvalidInput& e) {
    return e.what();
  } catch (const std::exception& e) {
    return std::string("not InvalidInput: ") + e.what();
  }
  return "nothing thrown";
}

inline std::map<std::string, OwnedTensor> load_tensors(const fs::path& file) {
  std::map<std::string, OwnedTensor> tensors;
  const Safetensors opened = Safetensors::open_file(file);
  for (const auto& [name, view] : opened.tensors()) {
    const uint8_t* p = static_cast<const uint8_t*>(view.data);
    tensors[name] = {view.dtype, view.shape, {p, p + view.bytes()}};
  }
  return tensors;
}

// Windows of made-up tokens, the same for everybody.
inline std::vector<std::vector<int32_t>> calibration_windows(int count, int length, int vocab) {
  std::vector<std::vector<int32_t>> windows(static_cast<size_t>(count));
  uint32_t state = 1;
  for (auto& window : windows)
    for (int i = 0; i < length; ++i)
      window.push_back(static_cast<int32_t>((state = state * 1664525u + 1013904223u) >> 8) % vocab);
  return windows;
}

inline QuantizeSummary quantize(const fs::path& input, const fs::path& output, const std::string& recipe,
                                const std::map<std::string, std::string>& overrides = {}, int num_threads = 1) {
  ThreadPool threads(num_threads);
  const auto backend = ref_backend();
  QuantizeJob job{
      .input = input, .output = output, .recipe = load_recipe(recipe, overrides), .windows = {}, .progress = {}};
  if (job.recipe.needs_calibration()) job.windows = calibration_windows(3, 32, read_model_config(input).vocab_size);
  return quantize_model(job, *backend, threads);
}

}  // namespace comet
