// SPDX-License-Identifier: Apache-2.0
// Benchmark data made on the device: N(0, 1) weights and activations through our number formats, since power and so
// speed depend on the values; and a slow check of any GEMM result against the formula.
#pragma once

#include <cuda_runtime.h>

#include "quant/activations.h"

namespace comet::cuda {

// Canonical progressive weights of N(0, 1) values, round to nearest.
void make_weights_w4(uint8_t* codes, uint8_t* group_scales, uint8_t* group_zeros, float* channel_scales, int n, int k,
                     uint32_t seed);

// values [m, k] row-major and the same in `layout`; 8-bit codes in the first groups, m * a4 in the others if bits2 = 4.
struct BenchActs {
  int8_t* rows;
  int8_t* tiles;
  uint32_t* sums;
  float* scales;
  int32_t* factors;
  ActLayout layout;
};
void make_activations(const BenchActs& out, int m, int k, int num_int8_groups, int bits2);

// An order of layouts_sm90.h -> row-major [m, k].
void unpack_activations(int8_t* rows, const int8_t* tiles, ActLayout layout, int m, int k);

// N(0, 1) in any of these types.
enum class DenseType { f32, bf16, f16, e4m3, s8 };
void make_dense(void* out, size_t count, DenseType type, uint32_t seed);

// A kernel that does nothing, launched as ours are: what a launch costs.
void launch_empty(cudaStream_t stream);

// The SM clock now: writes {clocks, nanoseconds} of some 20 us.
void launch_clock_probe(uint64_t* out, cudaStream_t stream);

// Number of outputs that differ from the formula; of more than a million, 200,000 random ones are looked at.
struct CheckArgs {
  const uint8_t* codes;  // 4-bit; null: codes8
  const uint8_t* group_scales;
  const uint8_t* group_zeros;
  const float* channel_scales;
  const int8_t* rows;
  const float* scales;
  const int32_t* factors;
  const uint16_t* d;  // bf16
  int m, n, k, num_int8_groups;
  const int8_t* codes8 = nullptr;
};
int count_wrong(const CheckArgs& args);

}  // namespace comet::cuda
