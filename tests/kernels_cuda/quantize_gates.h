// SPDX-License-Identifier: Apache-2.0
// Every bf16 gate through a CUDA backend's quantize_act of SiLU-mul.
#pragma once

#include <cuda_runtime.h>

#include "kernels/quantize_act.h"

namespace comet::cuda {

constexpr int kGates = 65536;  // tokens of one 8-bit group each

// values: kGates tokens of one group in this layout; multipliers: null where the layout has none at 8 bits.
void check_every_gate(void (*quantize)(const QuantizeActProblem&, const QuantizeActArgs&, cudaStream_t),
                      ActLayout layout, int8_t* values, uint8_t* multipliers);

}  // namespace comet::cuda
