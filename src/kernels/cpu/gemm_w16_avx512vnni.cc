// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/vec_avx512vnni.h"

#include "kernels/cpu/gemm_w16_tile.h"

namespace comet::avx512vnni {

void gemm_w16(const W16Task& task) { GemmW16<Vec, 6, 4>::run(task); }

}  // namespace comet::avx512vnni
