// SPDX-License-Identifier: Apache-2.0
// gemm_w16 on the CPU: a problem of any size on the pool.
#pragma once

#include "base/thread_pool.h"
#include "kernels/cpu/gemm_w16.h"

namespace comet {

void run_gemm_w16(GemmW16Fn kernel, const GemmProblem& problem, const GemmW16Args& args, ThreadPool& pool);

}  // namespace comet
