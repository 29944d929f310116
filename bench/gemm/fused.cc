// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm/fused.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "base/check.h"
#include "base/dtype.h"
#include "bench/gemm/copy.h"
#include "bench/gemm/data.h"
#include "bench/gemm/rms_norm.h"
#include "kernels/cuda/quantize_act_sm90.h"
#include "kernels/ref/ops_ref.h"

namespace comet::cuda {
namespace {

constexpr float kEps = 1e-5f;
constexpr size_t kRotatedFrom = 4000000;  // bytes; fewer come from the L2, as from the kernel before

std::vector<float> make_gain(int k) {
  std::vector<float> gain(k);  // that bf16 holds
  for (int i = 0; i < k; ++i) gain[i] = 0.75f + static_cast<float>(i % 61) / 128.0f;
  return gain;
}

std::vector<uint16_t> to_bf16(const std::vector<float>& values) {
  std::vector<uint16_t> out(values.size());
  for (size_t i = 0; i < out.size(); ++i) out[i] = comet::to_bf16(values[i]).bits;
  return out;
}

std::vector<int32_t> make_order(int k) {
  std::vector<int32_t> order(k);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(1));
  return order;
}

int row_copies(size_t bytes) { return bytes < kRotatedFrom ? 1 : static_cast<int>(kRotatedBytes / bytes) + 1; }

template <typename T>
std::vector<T> from_device(const T* data, size_t count) {
  std::vector<T> host(count);
  COMET_CUDA_CHECK(cudaMemcpy(host.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost));
  return host;
}

}  // namespace

FusedInput::FusedInput(int m, int k, ActLayout layout, const Regions& regions, int sms, cudaStream_t stream)
    : m_(m),
      k_(k),
      n8_(regions.n8),
      bits2_(regions.bits2),
      sms_(sms),
      copies_(row_copies(static_cast<size_t>(m) * k * sizeof(float))),
      stream_(stream),
      acts_(m, k, layout),
      host_gain_(make_gain(k)),
      host_perm_(make_order(k)),
      gain_(to_bf16(host_gain_)),
      x_(static_cast<size_t>(m) * k * copies_),
      perm_(host_perm_),
      normed_(static_cast<size_t>(m) * k) {
  if (k > kMostNormChannels)
    throw_unsupported("rms_norm_f16 has registers for {} channels, not for {}", kMostNormChannels, k);
  make_dense(x_.data(), x_.size(), DenseType::f32, 9);
  COMET_CUDA_CHECK(cudaDeviceSynchronize());
  quantize(0);
  COMET_CUDA_CHECK(cudaDeviceSynchronize());
}

void FusedInput::quantize(int i) const {
  const QuantizeActProblem problem{m_, {k_, k_, n8_, bits2_, true, 0.95f, 0.9f}, ActSource::rms_norm};
  QuantizeActArgs args;
  args.x = x_.data() + static_cast<size_t>(i % copies_) * m_ * k_;
  args.gain = gain_.data();
  args.gain_dtype = DType::bf16;  // as in checkpoints
  args.eps = kEps;
  args.perm = perm_.data();
  args.out = acts_.args();
  quantize_act_ax_sm90(problem, args, stream_);
}

void FusedInput::norm(int i) const {
  const float* x = x_.data() + static_cast<size_t>(i % copies_) * m_ * k_;
  launch_rms_norm_f16({x, gain_.data(), normed_.data(), m_, k_, kEps}, sms_, stream_);
}

void FusedInput::move(int i) {
  const size_t codes = static_cast<size_t>(m_) * k_;
  launch_read_and_rewrite(acts_.tiles.data(), x_.data() + i % copies_ * codes, codes, sms_, stream_);
}

void FusedInput::poison() {
  acts_.poison();
  normed_.fill_bytes(0x55);
  COMET_CUDA_CHECK(cudaDeviceSynchronize());
}

std::vector<int> FusedInput::checked_tokens() const {
  std::vector<int> tokens = {0, m_ / 2, m_ - 1};
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  return tokens;
}

std::vector<float> FusedInput::host_row(int token) const {
  return from_device(x_.data() + static_cast<size_t>(token) * k_, k_);
}

int FusedInput::count_wrong_codes() const {
  const QuantizeActProblem problem{1, {k_, k_, n8_, bits2_, true, 0.95f, 0.9f}, ActSource::rms_norm};
  int wrong = 0;
  for (const int token : checked_tokens()) {
    const std::vector<float> row = host_row(token);
    std::vector<int8_t> codes(k_);
    std::vector<uint8_t> multipliers(k_ / kGroup);
    std::vector<int16_t> group_sums(k_ / kGroup);
    int32_t factor = 0;
    float scale = 0.0f;
    uint32_t sum = 0;
    QuantizeActArgs args;
    args.x = row.data();
    args.gain = host_gain_.data();
    args.eps = kEps;
    args.perm = host_perm_.data();
    args.out = {ActLayout::rows, codes.data(), multipliers.data(), group_sums.data(), &factor, &scale, &sum};
    quantize_act_ref(problem, args);
    const std::vector<int8_t> got = from_device(acts_.rows.data() + static_cast<size_t>(token) * k_, k_);
    for (int i = 0; i < k_; ++i) wrong += got[i] != codes[i];
    wrong += from_device(acts_.factors.data() + token, 1)[0] != factor;
    wrong += float_bits(from_device(acts_.scales.data() + token, 1)[0]) != float_bits(scale);
    wrong += from_device(acts_.sums.data() + token, 1)[0] != sum;
  }
  return wrong;
}

int FusedInput::count_wrong_norms() const {
  int wrong = 0;
  for (const int token : checked_tokens()) {
    const std::vector<float> row = host_row(token);
    double sum = 0.0;
    for (const float x : row) sum += static_cast<double>(x) * x;
    const double inv = 1.0 / std::sqrt(sum / k_ + kEps);
    const std::vector<uint16_t> got = from_device(normed_.data() + static_cast<size_t>(token) * k_, k_);
    for (int i = 0; i < k_; ++i) {
      const double want = row[i] * inv * host_gain_[i];
      // Half a unit of fp16 (2^-11, 2^-25 below its normal numbers), and as much for the fp32 operations.
      const double bound = std::fabs(want) * 0x1p-10 + 0x1p-24;
      wrong += !(std::fabs(to_float(f16{got[i]}) - want) <= bound);
    }
  }
  return wrong;
}

}  // namespace comet::cuda
