// SPDX-License-Identifier: Apache-2.0
// Reading a layer's weights and nothing else, in a chain of dependent kernels: what memory gives a GEMM of few tokens.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/gemm.h"

namespace comet::cuda {

// Like a GEMM it asks for its first weights before the kernel in front has ended, reads a token of that kernel's before
// it goes on, and leaves a word a thread. out: of 64 x sms words at least, also the token.
void launch_stream(const PackedWeights& weights, uint32_t* out, int sms, cudaStream_t stream);

}  // namespace comet::cuda
