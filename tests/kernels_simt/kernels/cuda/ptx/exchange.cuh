// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/ptx/barrier.cuh"

namespace comet::cuda::ptx {

inline void named_barrier_arrive(int id, int threads) { simt::arrive_named(id, threads); }

}  // namespace comet::cuda::ptx
