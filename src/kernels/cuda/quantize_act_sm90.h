// SPDX-License-Identifier: Apache-2.0
// quantize_act_ax_sm90: source -> permute -> rotate -> two-region quantization in one pass, bit for bit the reference.
#pragma once

#include <cuda_runtime.h>

#include "kernels/quantize_act.h"

namespace comet::cuda {

// Writes out.values in ActLayout::tiles_sm90 (padding tokens are zero), scales, region1_factors, sums, and multipliers
// and group_sums where they are not null. Throws Unsupported for rows that do not fit the shared memory of an SM.
void quantize_act_ax_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, cudaStream_t stream);

// The general kernel keeps the rotated row, the groups' maxima and, where it is permuted or normed, the source row in
// shared memory.
constexpr int kMostRowBytes = 226 * 1024;
constexpr bool stages_row(const QuantizeActProblem& p, const QuantizeActArgs& args) {
  return args.perm != nullptr || p.source == ActSource::rms_norm;
}
// The kernel for rows of up to 32,768 channels (16,384 normed or permuted) in whole 16-byte pieces; the other is
// general.
bool keeps_row_in_registers(const QuantizeActProblem& p, const QuantizeActArgs& args);
void launch_quantize_act_resident_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, cudaStream_t stream);
void launch_quantize_act_ax_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, int shared_bytes,
                                 cudaStream_t stream);

}  // namespace comet::cuda
