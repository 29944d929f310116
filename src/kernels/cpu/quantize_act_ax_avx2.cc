// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/quantize_act_rows.h"
#include "kernels/cpu/vec_avx2.h"

namespace comet::avx2 {

void quantize_act_rows(const QuantizeActProblem& p, const QuantizeActArgs& args, int64_t begin, int64_t end,
                       float* scratch) {
  quantize_rows<Vec>(p, args, begin, end, scratch);
}

}  // namespace comet::avx2
