// SPDX-License-Identifier: Apache-2.0
// The dense baselines: cuBLAS fp16 and cuBLASLt fp8 and int8, loaded at run time.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <string>

namespace comet::cuda {

class DenseGemm {
 public:
  virtual ~DenseGemm() = default;
  // y[m, n] = x[m, k] * w[n, k]^T: fp16 -> fp16 (cublasGemmEx), e4m3 -> bf16, s8 -> s32 (first choice of cuBLASLt's
  // heuristic).
  virtual void fp16(const void* x, const void* w, void* y, int m, int n, int k) = 0;
  virtual void fp8(const void* x, const void* w, void* y, int m, int n, int k) = 0;
  virtual void int8(const void* x, const void* w, void* y, int m, int n, int k) = 0;
};

// folder: where libcublas.so.13 and libcublasLt.so.13 lie; "" leaves it to the loader. Throws Error when they are not
// found.
std::unique_ptr<DenseGemm> load_cublas(const std::string& folder, cudaStream_t stream);

}  // namespace comet::cuda
