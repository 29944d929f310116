// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm/cublas.h"

#include <dlfcn.h>
#include <library_types.h>

#include <map>
#include <tuple>

#include "base/check.h"
#include "bench/gemm/device_array.h"

namespace comet::cuda {
namespace {

// The few names of cublas_v2.h and cublasLt.h that are used; their values are part of NVIDIA's stable ABI.
constexpr int kOpN = 0, kOpT = 1;
constexpr int kCompute32F = 68, kCompute32I = 72;
constexpr int kGemmDefault = -1;
constexpr int kDescTransA = 3, kDescTransB = 4, kDescScaleA = 17, kDescScaleB = 18;
constexpr int kPreferenceWorkspaceBytes = 1;

struct LtAlgo {
  uint64_t data[8];
};
struct LtHeuristic {
  LtAlgo algo;
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
};

void check(int status, const char* call) {
  if (status != 0) throw Error(fmt::format("{}: cuBLAS status {}", call, status));
}
#define COMET_CUBLAS_CHECK(call) check((call), #call)

struct LtPlan {
  void *desc = nullptr, *a = nullptr, *b = nullptr, *d = nullptr;
  LtHeuristic choice{};
};

class Cublas final : public DenseGemm {
 public:
  Cublas(const std::string& folder, cudaStream_t stream)
      : stream_(stream), workspace_(size_t{64} << 20), one_(std::vector<float>{1.0f}) {
    const std::string prefix = folder.empty() ? "" : folder + "/";
    lt_ = open(prefix + "libcublasLt.so.13");
    blas_ = open(prefix + "libcublas.so.13");
    COMET_CUBLAS_CHECK(symbol<int(void**)>(blas_, "cublasCreate_v2")(&handle_));
    COMET_CUBLAS_CHECK(symbol<int(void*, cudaStream_t)>(blas_, "cublasSetStream_v2")(handle_, stream));
    COMET_CUBLAS_CHECK(symbol<int(void*, void*, size_t)>(blas_, "cublasSetWorkspace_v2")(handle_, workspace_.data(),
                                                                                         workspace_.bytes()));
    COMET_CUBLAS_CHECK(symbol<int(void**)>(lt_, "cublasLtCreate")(&lt_handle_));
    gemm_ex_ = symbol<GemmEx>(blas_, "cublasGemmEx");
    lt_matmul_ = symbol<LtMatmul>(lt_, "cublasLtMatmul");
  }

  void run(DenseType type, const void* x, const void* w, void* y, int m, int n, int k) override {
    const float one = 1.0f, zero = 0.0f;
    const int int_one = 1, int_zero = 0;
    switch (type) {
      case DenseType::f16:
      case DenseType::bf16: {
        const int cuda_type = type == DenseType::f16 ? CUDA_R_16F : CUDA_R_16BF;
        COMET_CUBLAS_CHECK(gemm_ex_(handle_, kOpT, kOpN, n, m, k, &one, w, cuda_type, k, x, cuda_type, k, &zero, y,
                                    cuda_type, n, kCompute32F, kGemmDefault));
        return;
      }
      case DenseType::e4m3:
        return run(plan(CUDA_R_8F_E4M3, CUDA_R_16BF, kCompute32F, CUDA_R_32F, m, n, k), x, w, y, &one, &zero);
      case DenseType::s8:
        return run(plan(CUDA_R_8I, CUDA_R_32I, kCompute32I, CUDA_R_32I, m, n, k), x, w, y, &int_one, &int_zero);
      case DenseType::f32: break;
    }
    throw Error("cuBLAS baselines are of 8 and 16 bits");
  }

 private:
  using GemmEx = int(void*, int, int, int, int, int, const void*, const void*, int, int, const void*, int, int,
                     const void*, void*, int, int, int, int);
  using LtMatmul = int(void*, void*, const void*, const void*, void*, const void*, void*, const void*, const void*,
                       void*, void*, void*, const LtAlgo*, void*, size_t, cudaStream_t);

  static void* open(const std::string& path) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (library == nullptr)
      throw_unsupported(
          "the baselines need cuBLAS 13: {} (--cublas FOLDER says where it is, --no-baselines leaves it out)",
          dlerror());
    return library;
  }
  template <typename F>
  static F* symbol(void* library, const char* name) {
    void* p = dlsym(library, name);
    COMET_CHECK(p != nullptr, "{} is not in the library", name);
    return reinterpret_cast<F*>(p);
  }

  // Row-major [m, n] = x * w^T is column-major [n, m] = w^T' * x.
  const LtPlan& plan(int in, int out, int compute, int scale, int m, int n, int k) {
    LtPlan& p = plans_[{in, m, n, k}];
    if (p.desc != nullptr) return p;
    auto layout = symbol<int(void**, int, uint64_t, uint64_t, int64_t)>(lt_, "cublasLtMatrixLayoutCreate");
    auto set = symbol<int(void*, int, const void*, size_t)>(lt_, "cublasLtMatmulDescSetAttribute");
    COMET_CUBLAS_CHECK(symbol<int(void**, int, int)>(lt_, "cublasLtMatmulDescCreate")(&p.desc, compute, scale));
    COMET_CUBLAS_CHECK(set(p.desc, kDescTransA, &kOpT, sizeof(int)));
    COMET_CUBLAS_CHECK(set(p.desc, kDescTransB, &kOpN, sizeof(int)));
    if (in == CUDA_R_8F_E4M3) {
      const float* one = one_.data();
      COMET_CUBLAS_CHECK(set(p.desc, kDescScaleA, &one, sizeof(one)));
      COMET_CUBLAS_CHECK(set(p.desc, kDescScaleB, &one, sizeof(one)));
    }
    COMET_CUBLAS_CHECK(layout(&p.a, in, k, n, k));
    COMET_CUBLAS_CHECK(layout(&p.b, in, k, m, k));
    COMET_CUBLAS_CHECK(layout(&p.d, out, n, m, n));
    void* preference = nullptr;
    const size_t bytes = workspace_.bytes();
    COMET_CUBLAS_CHECK(symbol<int(void**)>(lt_, "cublasLtMatmulPreferenceCreate")(&preference));
    COMET_CUBLAS_CHECK(symbol<int(void*, int, const void*, size_t)>(lt_, "cublasLtMatmulPreferenceSetAttribute")(
        preference, kPreferenceWorkspaceBytes, &bytes, sizeof(bytes)));
    int found = 0;
    COMET_CUBLAS_CHECK(symbol<int(void*, void*, void*, void*, void*, void*, void*, int, LtHeuristic*, int*)>(
        lt_, "cublasLtMatmulAlgoGetHeuristic")(lt_handle_, p.desc, p.a, p.b, p.d, p.d, preference, 1, &p.choice,
                                               &found));
    COMET_CHECK(found == 1, "cuBLASLt has no kernel for m {} n {} k {}", m, n, k);
    return p;
  }

  void run(const LtPlan& p, const void* x, const void* w, void* y, const void* alpha, const void* beta) {
    COMET_CUBLAS_CHECK(lt_matmul_(lt_handle_, p.desc, alpha, w, p.a, x, p.b, beta, y, p.d, y, p.d, &p.choice.algo,
                                  workspace_.data(), workspace_.bytes(), stream_));
  }

  cudaStream_t stream_;
  DeviceArray<uint8_t> workspace_;
  DeviceArray<float> one_;
  void *lt_ = nullptr, *blas_ = nullptr, *handle_ = nullptr, *lt_handle_ = nullptr;
  GemmEx* gemm_ex_ = nullptr;
  LtMatmul* lt_matmul_ = nullptr;
  std::map<std::tuple<int, int, int, int>, LtPlan> plans_;
};

}  // namespace

std::unique_ptr<DenseGemm> load_cublas(const std::string& folder, cudaStream_t stream) {
  return std::make_unique<Cublas>(folder, stream);
}

}  // namespace comet::cuda
