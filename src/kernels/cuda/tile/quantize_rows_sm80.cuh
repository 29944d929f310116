// SPDX-License-Identifier: Apache-2.0
// Rows in whole 16-byte pieces for tile/quantize_row.cuh on Ampere and Ada: one group a lane at most, picked channel by
// channel, or SiLU-mul in its order.
#pragma once

#include <type_traits>

#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/cp_async_sm80.cuh"
#include "kernels/cuda/ptx/memory.cuh"
#include "kernels/cuda/tile/quantize_loads.cuh"
#include "kernels/cuda/tile/quantize_row.cuh"

namespace comet::cuda {

// Rows of T (bf16, or float with or without RMSNorm) in shared memory as they come, the next ones on their way. Where a
// lane's channels lie there, and their gains, are read once a CTA. Each stage ends in 16 bytes of zeros, where padding
// channels come from.
template <class T>
class PickedRow {
 public:
  static constexpr bool kIsFloat = std::is_same_v<T, float>;

  __device__ PickedRow(const RowArgs& args, char* rows, RowShared& shared)
      : k_(args), rows_(rows), chains_(shared.chains), is_normed_(kIsFloat && args.p.source == ActSource::rms_norm) {
    for (int i = 0; i + 1 < k_.stages; ++i) copy_row(i);
    if (static_cast<int>(threadIdx.x) < k_.stages)
      *reinterpret_cast<uint4*>(rows_ + (threadIdx.x + 1) * k_.row_bytes - 16) = {0, 0, 0, 0};
    pick();
    copy_row(k_.stages - 1);
  }

  // Half of the groups come with bit 2 of the register turned: an order that changes nothing still meets 8 banks,
  // not 4.
  static __device__ bool is_swapped(int lane) { return (lane & 8) != 0; }

  __device__ void begin(int, int count) {
    if (k_.stages == 2)
      ptx::cp_async_wait<1>();
    else
      ptx::cp_async_wait<0>();
    __syncthreads();
    stage_at_ = (count & (k_.stages - 1)) * k_.row_bytes;
    if constexpr (kIsFloat)
      if (is_normed_)
        inverse_ =
            rms_inverse_by_cta(reinterpret_cast<const float*>(rows_ + stage_at_), k_.p.format.k_in, k_.a.eps, chains_);
  }

  __device__ __forceinline__ void load(int, bool, float (&x)[kUnit]) const {
#pragma unroll
    for (int i = 0; i < kUnit; ++i) {
      const uint32_t from = order_[i] + stage_at_;
      if constexpr (kIsFloat)
        x[i] =
            (ptx::load_shared_float(from) * inverse_) * gain_[i];  // by 1 and 1 without RMSNorm, which changes nothing
      else
        x[i] = bf16_low(ptx::load_shared_u16(from));
    }
  }

  // The row is read.
  __device__ void end(int, int count) { copy_row(count + k_.stages); }

 private:
  // Of this CTA's count-th token, into its stage; a group of copies, empty behind the last.
  __device__ __forceinline__ void copy_row(int count) const {
    const int token = blockIdx.x + count * gridDim.x, bytes = k_.p.format.k_in * static_cast<int>(sizeof(T));
    if (token < k_.p.m) {
      const char* from = static_cast<const char*>(k_.a.x) + row_index(k_.a, token) * bytes;
      const uint32_t to = ptx::shared_address(rows_ + (count & (k_.stages - 1)) * k_.row_bytes);
#pragma unroll 4
      for (int i = threadIdx.x * 16; i < bytes; i += blockDim.x * 16) ptx::cp_async_16(to + i, from + i);
    }
    ptx::cp_async_commit();
  }

  template <class G>
  __device__ __forceinline__ void stage_gains(float* to) const {
#pragma unroll 8
    for (int i = threadIdx.x; i < k_.p.format.k_in; i += blockDim.x)
      to[i] = to_float(static_cast<const G*>(k_.a.gain)[i]);
  }

  // Gains pass through the last stage: picked from global memory, each would cost a sector.
  __device__ void pick() {
    const ActFormat& f = k_.p.format;
    const int lane = threadIdx.x % 32, t = lane % kUnitLanes, group = threadIdx.x / kUnitLanes;
    const bool is_mine = group < f.k / kGroup, is_before = f.rotate && group >= f.num_int8_groups;
    float* const gains = reinterpret_cast<float*>(rows_ + (k_.stages - 1) * k_.row_bytes);
    if (is_normed_) {
      if (k_.a.gain_dtype == DType::f32)
        stage_gains<float>(gains);
      else if (k_.a.gain_dtype == DType::bf16)
        stage_gains<bf16>(gains);
      else
        stage_gains<f16>(gains);
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < kUnit; i += 4) {
      const int first = (is_mine ? group : 0) * kGroup +
                        (is_before ? channel_before(i ^ (is_swapped(lane) ? 4 : 0), t) : channel_after(i, t));
      const int4 p = k_.a.perm != nullptr ? *reinterpret_cast<const int4*>(k_.a.perm + first)
                                          : int4{first, first + 1, first + 2, first + 3};
      const int channels[4] = {p.x, p.y, p.z, p.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const bool is_padding = !is_mine || channels[j] < 0 || channels[j] >= f.k_in;
        order_[i + j] = ptx::shared_address(rows_) + (is_padding ? f.k_in : channels[j]) * static_cast<int>(sizeof(T));
        if constexpr (kIsFloat) gain_[i + j] = !is_normed_ ? 1.0f : is_padding ? 0.0f : gains[channels[j]];
      }
    }
    if (is_normed_) __syncthreads();
  }

  const RowArgs& k_;
  char* const rows_;
  float* const chains_;
  const bool is_normed_;
  uint32_t order_[kUnit], stage_at_ = 0;
  float gain_[kIsFloat ? kUnit : 1], inverse_ = 1.0f;
};

// silu(gate) * up in its order, from global memory; the next row is on its way to the L2.
class SiluRow {
 public:
  __device__ SiluRow(const RowArgs& args, char*, RowShared&) : k_(args) {}

  static __device__ bool is_swapped(int) { return false; }

  __device__ void begin(int token, int) { gate_ = row_of(token); }

  __device__ __forceinline__ void load(int group, bool is_before, float (&x)[kUnit]) const {
    const char* gate = gate_ + group * (kGroup * 2);
    load_silu<true>(gate, gate + k_.p.format.k_in * 2, threadIdx.x % kUnitLanes, !is_before, x,
                    k_.p.format.k_in - group * kGroup);
  }

  __device__ void end(int token, int) {
    const int next = token + gridDim.x;
    if (next >= k_.p.m) return;
    for (int i = threadIdx.x * 128; i < k_.p.format.k_in * 4; i += blockDim.x * 128) ptx::prefetch_l2(row_of(next) + i);
  }

 private:
  __device__ const char* row_of(int token) const {
    return static_cast<const char*>(k_.a.x) + row_index(k_.a, token) * k_.p.format.k_in * 4;
  }

  const RowArgs& k_;
  const char* gate_ = nullptr;
};

}  // namespace comet::cuda
