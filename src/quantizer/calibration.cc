// SPDX-License-Identifier: Apache-2.0
#include "quantizer/calibration.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "quant/fp32.h"

namespace comet {
namespace {

constexpr int kMaxSamples = 512;  // rows kept for the clip searches

// gram += x^T x for x [rows, k]. Every element is one fixed-order sum per call, whatever the threads.
void add_gram(Backend& backend, const float* x, int rows, int k, std::vector<float>& gram) {
  std::vector<float> transposed(static_cast<size_t>(rows) * k);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < k; ++i) transposed[static_cast<size_t>(i * rows + r)] = x[r * k + i];
  backend.gemm_w16({.m = k, .n = k, .k = rows, .output = GemmOutput::add_f32},
                   {.a = transposed.data(), .b = transposed.data(), .b_dtype = DType::f32, .d = gram.data()});
}

}  // namespace

Calibration::Calibration(Backend& backend, const Checkpoint& checkpoint,
                         const std::vector<std::vector<int32_t>>& windows, const Recipe& recipe, ThreadPool& threads)
    : backend_(&backend),
      checkpoint_(&checkpoint),
      recipe_(&recipe),
      threads_(&threads),
      num_windows_(static_cast<int>(windows.size())),
      length_(windows.empty() ? 0 : static_cast<int>(windows[0].size())),
      workspace_(backend, checkpoint.config(), std::max(1, length_)),
      rope_(backend, checkpoint.config(), std::max(1, length_)) {
  COMET_CHECK(num_windows_ > 0, "no calibration windows");
  const ModelConfig& c = checkpoint.config();
  if (length_ > c.max_positions)
    throw_invalid("calibration windows of {} tokens are longer than the model's context of {}", length_,
                  c.max_positions);
  const LoadedTensor table = checkpoint.float_tensor("model.embed_tokens.weight", {c.vocab_size, c.hidden_size});
  const size_t row_bytes = static_cast<size_t>(c.hidden_size) * dtype_bytes(table.view.dtype);
  for (const std::vector<int32_t>& window : windows)
    for (const int32_t id : window) {
      if (id < 0 || id >= c.vocab_size)
        throw_invalid("calibration token {} is outside the vocabulary of {}", id, c.vocab_size);
      const std::vector<float> row =
          to_f32({static_cast<const char*>(table.view.data) + static_cast<size_t>(id) * row_bytes,
                  table.view.dtype,
                  {c.hidden_size}});
      hidden_.insert(hidden_.end(), row.begin(), row.end());
    }
}

void Calibration::collect(Site site, const float* x, int rows, int channels) {
  std::vector<float> rotated;
  if (site == Site::o_in && recipe_->v_rotate) {
    rotated.assign(x, x + int64_t{rows} * channels);
    const int d = checkpoint_->config().head_dim;
    for (int64_t at = 0; at < int64_t{rows} * channels; at += d)
      hadamard(&rotated[static_cast<size_t>(at)], d, hadamard_scale(d));
    x = rotated.data();
  }
  SiteStatistics& s = statistics_[static_cast<size_t>(site)];
  if (s.absmax.empty()) {
    s.absmax.assign(static_cast<size_t>(channels), 0.0f);
    if (recipe_->error_feedback) s.gram.assign(static_cast<size_t>(channels) * channels, 0.0f);
  }
  const int64_t total = int64_t{num_windows_} * length_, stride = std::max<int64_t>(1, total / kMaxSamples);
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * channels;
    for (int i = 0; i < channels; ++i)
      s.absmax[static_cast<size_t>(i)] = std::max(s.absmax[static_cast<size_t>(i)], std::fabs(row[i]));
    if (rows_seen_[static_cast<size_t>(site)]++ % stride == 0 && s.num_samples < kMaxSamples) {
      s.samples.insert(s.samples.end(), row, row + channels);
      ++s.num_samples;
    }
  }
  if (recipe_->error_feedback) add_gram(*backend_, x, rows, channels, s.gram);
}

std::vector<SiteStatistics> Calibration::run_layer(int index) {
  const ModelConfig& c = checkpoint_->config();
  const KvFormat kv;  // bf16
  const DecoderLayer layer(*backend_, *checkpoint_, index, kv);
  const int blocks = (length_ + kKvBlock - 1) / kKvBlock;
  const DeviceBuffer cache(
      *backend_, backend_->kv_block_bytes({.num_kv_heads = c.num_kv_heads, .head_dim = c.head_dim, .bits = kv.bits}) *
                     static_cast<size_t>(blocks));
  std::vector<int32_t> positions(static_cast<size_t>(length_)), table(static_cast<size_t>(blocks));
  std::iota(positions.begin(), positions.end(), 0);
  std::iota(table.begin(), table.end(), 0);
  const std::vector<int32_t> seqs(static_cast<size_t>(length_), 0), first = {0, length_};
  const BatchView batch{.num_tokens = length_,
                        .num_seqs = 1,
                        .token_seqs = seqs.data(),
                        .positions = positions.data(),
                        .seq_first_token = first.data(),
                        .block_tables = table.data(),
                        .block_table_stride = blocks};
  const Tap tap = [this](int, Site site, const float* x, int rows, int channels) { collect(site, x, rows, channels); };
  statistics_.assign(kSites.size(), {});
  std::fill(std::begin(rows_seen_), std::end(rows_seen_), 0);
  std::vector<uint32_t> errors(static_cast<size_t>(length_));
  const size_t window_bytes = static_cast<size_t>(length_) * c.hidden_size * sizeof(float);
  for (int w = 0; w < num_windows_; ++w) {
    float* hidden = &hidden_[static_cast<size_t>(w) * length_ * c.hidden_size];
    backend_->copy_in(workspace_.residual.data(), hidden, window_bytes);
    layer.forward({.batch = batch, .workspace = &workspace_, .rope = &rope_, .cache = cache.data(), .tap = &tap});
    backend_->synchronize();
    backend_->copy_out(hidden, workspace_.residual.data(), window_bytes);
  }
  backend_->copy_out(errors.data(), workspace_.row_errors.data(), errors.size() * sizeof(uint32_t));
  for (const uint32_t tag : errors)
    if (tag != 0) throw_invalid("calibration met {}", describe_error_tag(tag));
  return std::move(statistics_);
}

}  // namespace comet
