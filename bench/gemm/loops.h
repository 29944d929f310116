// SPDX-License-Identifier: Apache-2.0
// What the main loop of gemm_w4ax_sm90 does in a second when nothing else is done: no copies, barriers or outputs.
#pragma once

#include <vector>

#include "bench/gemm/replay.h"
#include "bench/gemm/results.h"

namespace comet::cuda {

// For every tile, of 128 rows: weights unpacked from shared memory and multiplied, on every SM.
std::vector<gemm_bench::LoopRate> measure_loops(ReplayTimer& timer, int sms, cudaStream_t stream, int rounds);

}  // namespace comet::cuda
