// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"
#include "kernels/ref/ops_ref.h"
#include "quant/fp32.h"

namespace comet {

float load_float(const void* data, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::f32: return static_cast<const float*>(data)[i];
    case DType::bf16: return to_float(static_cast<const bf16*>(data)[i]);
    case DType::f16: return to_float(static_cast<const f16*>(data)[i]);
    default: COMET_CHECK(false, "{} is not a float type", to_string(dtype));
  }
}

void embed_ref(const EmbedArgs& args) {
  for (int64_t t = 0; t < args.m; ++t)
    for (int64_t i = 0; i < args.hidden; ++i)
      args.out[t * args.hidden + i] = load_float(args.table, args.table_dtype, int64_t{args.ids[t]} * args.hidden + i);
}

void rms_norm_ref(const RmsNormArgs& args) {
  for (int64_t t = 0; t < args.m; ++t) {
    const float* x = args.x + (args.row_ids != nullptr ? args.row_ids[t] : t) * args.hidden;
    const float inv = rms_inverse(sum_of_squares(x, args.hidden), args.hidden, args.eps);
    for (int64_t i = 0; i < args.hidden; ++i)
      args.out[t * args.hidden + i] = (x[i] * inv) * load_float(args.gain, args.gain_dtype, i);
  }
}

void silu_mul_ref(const SiluMulArgs& args) {
  for (int64_t t = 0; t < args.m; ++t) {
    const float* gate = args.gate_up + t * 2 * args.width;
    for (int64_t i = 0; i < args.width; ++i) args.out[t * args.width + i] = silu(gate[i]) * gate[args.width + i];
  }
}

void check_finite_ref(const CheckFiniteArgs& args) {
  for (int64_t t = 0; t < args.m; ++t)
    for (int64_t i = 0; i < args.n; ++i)
      if (!is_finite(args.x[t * args.n + i]) && args.row_errors[t] == 0) args.row_errors[t] = args.error_tag;
}

}  // namespace comet
