// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/vec_avx2.h"

#include "kernels/cpu/gemm_w16_tile.h"

namespace comet::avx2 {

void gemm_w16(const W16Task& task) { GemmW16<Vec, 4, 3>::run(task); }

}  // namespace comet::avx2
