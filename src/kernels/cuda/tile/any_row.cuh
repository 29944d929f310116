// SPDX-License-Identifier: Apache-2.0
// Rows of any source, order and length for tile/quantize_row.cuh. Where it is permuted or normed the row is made once
// and lies in shared memory as floats, if it fits; else channels are made in place, as often as they are asked for.
#pragma once

#include "kernels/cuda/tile/quantize_row.cuh"

namespace comet::cuda {

constexpr bool wants_staging(const QuantizeActProblem& p, const QuantizeActArgs& args) {
  return args.perm != nullptr || p.source == ActSource::rms_norm;
}

class AnyRow {
 public:
  // bytes: of shared memory, [k_in] floats where args.is_staged.
  __device__ AnyRow(const RowArgs& args, char* bytes, RowShared& shared)
      : k_(args), staged_(args.is_staged ? reinterpret_cast<float*>(bytes) : nullptr), chains_(shared.chains) {}

  static __device__ bool is_swapped(int) { return false; }

  __device__ void begin(int token, int count) {
    row_ = row_index(k_.a, token);
    const bool is_normed = k_.p.source == ActSource::rms_norm;
    const int n = k_.p.format.k_in;
    const float* x = static_cast<const float*>(k_.a.x) + row_ * n;
    if (staged_ == nullptr) {
      if (is_normed) inverse_ = rms_inverse_by_cta(x, n, k_.a.eps, chains_);
      return;
    }
    if (count > 0) __syncthreads();  // the row before is read
    if ((is_normed || k_.p.source == ActSource::f32) && n % 4 == 0 && reinterpret_cast<size_t>(k_.a.x) % 16 == 0) {
#pragma unroll 4
      for (int i = threadIdx.x; i < n / 4; i += blockDim.x)
        reinterpret_cast<float4*>(staged_)[i] = reinterpret_cast<const float4*>(x)[i];
    } else {
      for (int i = threadIdx.x; i < n; i += blockDim.x) staged_[i] = raw(i);
    }
    __syncthreads();
    if (!is_normed) return;
    const float inverse = rms_inverse_by_cta(staged_, n, k_.a.eps, chains_);
#pragma unroll 4
    for (int i = threadIdx.x; i < n; i += blockDim.x) staged_[i] = (staged_[i] * inverse) * gain(i);
    __syncthreads();
  }

  __device__ void load(int group, bool is_before, float (&x)[kUnit]) const {
    const ActFormat& f = k_.p.format;
    const int t = threadIdx.x % kUnitLanes;
#pragma unroll
    for (int i = 0; i < kUnit; i += 4) {
      const int first = group * kGroup + (is_before ? channel_before(i, t) : channel_after(i, t));
      int channels[4] = {-1, -1, -1, -1};
      if (first < f.k && k_.a.perm != nullptr) {
        const int4 p = *reinterpret_cast<const int4*>(k_.a.perm + first);
        channels[0] = p.x, channels[1] = p.y, channels[2] = p.z, channels[3] = p.w;
      } else if (first < f.k) {
#pragma unroll
        for (int j = 0; j < 4; ++j) channels[j] = first + j < f.k_in ? first + j : -1;
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) x[i + j] = channels[j] < 0 ? 0.0f : value(channels[j]);
    }
  }

  __device__ void end(int, int) {}

 private:
  __device__ float gain(int channel) const {
    if (k_.a.gain_dtype == DType::f32) return static_cast<const float*>(k_.a.gain)[channel];
    if (k_.a.gain_dtype == DType::bf16) return to_float(static_cast<const bf16*>(k_.a.gain)[channel]);
    return to_float(static_cast<const f16*>(k_.a.gain)[channel]);
  }

  // Before the norm.
  __device__ float raw(int channel) const {
    const size_t n = k_.p.format.k_in;
    switch (k_.p.source) {
      case ActSource::bf16: return to_float(static_cast<const bf16*>(k_.a.x)[row_ * n + channel]);
      case ActSource::silu_mul: {
        const bf16* gate = static_cast<const bf16*>(k_.a.x) + row_ * 2 * n + channel;
        return silu(to_float(gate[0])) * to_float(gate[n]);
      }
      default: return static_cast<const float*>(k_.a.x)[row_ * n + channel];
    }
  }

  __device__ float value(int channel) const {
    if (staged_ != nullptr) return staged_[channel];
    return k_.p.source == ActSource::rms_norm ? (raw(channel) * inverse_) * gain(channel) : raw(channel);
  }

  const RowArgs& k_;
  float *const staged_, *const chains_;
  size_t row_ = 0;
  float inverse_ = 0.0f;
};

}  // namespace comet::cuda
