// SPDX-License-Identifier: Apache-2.0
// The dense baselines: cuBLAS fp16 and bf16, cuBLASLt fp8 and int8, loaded at run time.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <string>

#include "bench/gemm/data.h"

namespace comet::cuda {

class DenseGemm {
 public:
  virtual ~DenseGemm() = default;
  // y[m, n] = x[m, k] * w[n, k]^T: f16 -> f16 and bf16 -> bf16 (cublasGemmEx), e4m3 -> bf16, s8 -> s32 (first choice of
  // cuBLASLt's heuristic). f32 throws Error.
  virtual void run(DenseType type, const void* x, const void* w, void* y, int m, int n, int k) = 0;
};

// folder: where libcublas.so.13 and libcublasLt.so.13 lie; "" leaves it to the loader. Throws Unsupported when they are
// not found.
std::unique_ptr<DenseGemm> load_cublas(const std::string& folder, cudaStream_t stream);

}  // namespace comet::cuda
