// SPDX-License-Identifier: Apache-2.0
// The kernels of quantize_act for Ampere and Ada: tile/quantize_row.cuh with the rows of one source each.
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/quantize_act_sm80.h"
#include "kernels/cuda/tile/any_row.cuh"
#include "kernels/cuda/tile/quantize_out_sm80.cuh"
#include "kernels/cuda/tile/quantize_rows_sm80.cuh"

namespace comet::cuda {
namespace {

template <class Row, int kUnits, int kThreads, int kCtasPerSm>
__global__ void __launch_bounds__(kThreads, kCtasPerSm) quantize_act_ax_sm80_kernel(const __grid_constant__ RowArgs k) {
  extern __shared__ __align__(16) char bytes[];
  __shared__ RowShared s;
  quantize_rows_sm80<Row, kUnits>(k, bytes, s);
}

// As many as this device gives a CTA.
template <class Kernel>
void allow_all_shared_bytes(Kernel* kernel) {
  int device = 0, most = 0;
  cudaFuncAttributes attributes{};
  COMET_CUDA_CHECK(cudaGetDevice(&device));
  COMET_CUDA_CHECK(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  COMET_CUDA_CHECK(cudaFuncGetAttributes(&attributes, kernel));
  COMET_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        most - static_cast<int>(attributes.sharedSizeBytes)));
}

template <class Row, int kUnits, int kThreads, int kCtasPerSm>
void launch(const RowArgs& k, const QuantizePlanSm80& plan, cudaStream_t stream) {
  auto* kernel = quantize_act_ax_sm80_kernel<Row, kUnits, kThreads, kCtasPerSm>;
  static const bool allowed = (allow_all_shared_bytes(kernel), true);
  static_cast<void>(allowed);
  kernel<<<plan.ctas, plan.threads, plan.shared_bytes, stream>>>(k);
  COMET_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void launch_quantize_act_ax_sm80(const QuantizeActProblem& p, const QuantizeActArgs& args, const QuantizePlanSm80& plan,
                                 cudaStream_t stream) {
  RowArgs k = make_row_args(p, args, plan.is_staged);
  k.row_bytes = picked_row_bytes(p), k.stages = plan.stages;
  switch (plan.rows) {
    case QuantizeRowsSm80::any: return launch<AnyRow, 0, kAnyThreadsSm80, 1>(k, plan, stream);
    case QuantizeRowsSm80::picked:
      if (p.source == ActSource::bf16) return launch<PickedRow<bf16>, 1, 512, 2>(k, plan, stream);
      return plan.threads <= 256 ? launch<PickedRow<float>, 1, 256, 3>(k, plan, stream)
                                 : launch<PickedRow<float>, 1, 512, 1>(k, plan, stream);
    case QuantizeRowsSm80::silu:
      return plan.units == 1 ? launch<SiluRow, 1, kSiluThreadsSm80, 1>(k, plan, stream)
                             : launch<SiluRow, 2, kSiluThreadsSm80, 1>(k, plan, stream);
  }
}

}  // namespace comet::cuda
