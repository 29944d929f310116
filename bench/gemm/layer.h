// SPDX-License-Identifier: Apache-2.0
// A layer's weights and its activations on the device.
#pragma once

#include <algorithm>

#include "bench/gemm/device_array.h"
#include "bench/gemm/results.h"
#include "bench/gemm/shapes.h"
#include "kernels/cuda/gemm_sm90.h"
#include "kernels/gemm.h"

namespace comet::cuda {

constexpr size_t kRotatedBytes = size_t{160} << 20;  // more than twice the L2

// So many copies that what a launch reads has left the L2 since its last use.
inline int copies_of(size_t bytes) { return static_cast<int>(std::clamp<size_t>(kRotatedBytes / bytes + 1, 2, 64)); }

// How the activations of a point are coded. share4: percent of the groups that are 4-bit; 0: W4A8.
struct Regions {
  int n8, bits2;

  Regions(int k, int share4);
};

// N(0, 1) in our format, canonical and packed, copied until it exceeds the L2.
struct W4Layer {
  int n, k, copies;
  DeviceArray<uint8_t> codes, group_scales, group_zeros, packed;
  DeviceArray<float> channel_scales;
  size_t bytes;  // of one packed copy

  W4Layer(int n, int k, cudaStream_t stream);
  PackedWeights copy(int i) const { return {packed.data() + bytes * (i % copies), bytes, n, k}; }
};

// Codes of m tokens, row-major and as the GEMM takes them.
struct Acts {
  int m, k;
  ActLayout layout;  // of tiles
  DeviceArray<int8_t> rows, tiles;
  DeviceArray<uint32_t> sums;
  DeviceArray<float> scales;
  DeviceArray<int32_t> factors;

  Acts(int m, int k, ActLayout layout);
  void fill(const Regions& regions);  // N(0, 1)
  void poison();
  QuantizedActs args() const;
};

// Scratch that any of the plans may have, one launch at a time.
struct Scratch {
  DeviceArray<uint8_t> partials;
  DeviceArray<uint32_t> counters;

  Scratch() = default;
  explicit Scratch(const std::vector<GemmPlan>& plans);
  GemmWorkspace args() const { return {partials.data(), counters.data()}; }
};

// Outputs of d (bf16 [m, n]) that differ from the formula on acts.rows; of many, 200,000 random ones are looked at.
int count_wrong_outputs(const GemmProblem& problem, const W4Layer& layer, const Acts& acts, const void* d);

}  // namespace comet::cuda
