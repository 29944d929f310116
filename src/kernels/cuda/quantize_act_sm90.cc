// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/quantize_act_sm90.h"

#include "base/check.h"

namespace comet::cuda {

void quantize_act_ax_sm90(const QuantizeActProblem& p, const QuantizeActArgs& args, cudaStream_t stream) {
  COMET_CHECK(args.out.layout == ActLayout::tiles_sm90, "quantize_act_ax_sm90 writes tiles_sm90 only");
  if (keeps_row_in_registers(p, args)) return launch_quantize_act_resident_sm90(p, args, stream);
  const int floats = p.format.k + round_up(p.format.k / kGroup, 4) + (stages_row(p, args) ? p.format.k_in : 0);
  const int bytes = floats * static_cast<int>(sizeof(float));
  if (bytes > kMostRowBytes)
    throw_unsupported(
        "quantize_act_ax_sm90 keeps {} bytes of a row of {} channels in shared memory; there is room for {}", bytes,
        p.format.k, kMostRowBytes);
  launch_quantize_act_ax_sm90(p, args, bytes, stream);
}

}  // namespace comet::cuda
