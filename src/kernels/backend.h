// SPDX-License-Identifier: Apache-2.0
// What a device offers the layers above: memory, weight packing, the op table.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/thread_pool.h"
#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/quantize_act.h"

namespace comet {

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;  // "ref", "avx512vnni", "sm90"
  // "gemm_w4ax_avx512vnni, ...": which kernel runs each op here; for logs and `comet env`.
  virtual std::vector<std::string> kernels() const = 0;

  // Memory: zero-filled, 64-byte aligned. Throws InvalidInput (how much was asked for) when there is not enough.
  virtual void* allocate(size_t bytes) = 0;
  virtual void free(void* p) = 0;
  virtual void copy_in(void* device, const void* host, size_t bytes) = 0;
  virtual void copy_out(void* host, const void* device, size_t bytes) = 0;
  virtual void synchronize() = 0;

  // Canonical host weights -> this backend's byte order. The result is freed with free(result.data).
  virtual PackedWeights pack_w4ax(const W4axWeights& w) = 0;
  virtual PackedWeights pack_w8(const W8Weights& w) = 0;

  // Bytes for QuantizedActs of up to m rows and k channels, and the struct over such memory.
  virtual size_t acts_bytes(int m, int k) const = 0;
  virtual QuantizedActs bind_acts(void* memory, int m, int k) const = 0;

  // Bytes of one kv_block of one layer.
  virtual size_t kv_block_bytes(const KvShape& kv) const = 0;

  virtual void embed(const EmbedArgs& args) = 0;
  virtual void rms_norm(const RmsNormArgs& args) = 0;
  virtual void silu_mul(const SiluMulArgs& args) = 0;
  virtual void check_finite(const CheckFiniteArgs& args) = 0;
  virtual void quantize_act(const QuantizeActProblem& problem, const QuantizeActArgs& args) = 0;
  virtual void gemm_w4ax(const GemmProblem& problem, const GemmArgs& args) = 0;
  virtual void gemm_w8a8(const GemmProblem& problem, const GemmArgs& args) = 0;
  virtual void gemm_w16(const GemmProblem& problem, const GemmW16Args& args) = 0;
  virtual void rope_append(const RopeAppendProblem& problem, const RopeAppendArgs& args) = 0;
  virtual void attention(const AttentionProblem& problem, const AttentionArgs& args) = 0;
};

// Memory of a backend, freed with it.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(Backend& backend, size_t bytes) : backend_(&backend), data_(backend.allocate(bytes)), bytes_(bytes) {}
  DeviceBuffer(Backend& backend, PackedWeights packed) : backend_(&backend), data_(packed.data), bytes_(packed.bytes) {}
  ~DeviceBuffer() { reset(); }
  DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    if (this != &other) {
      reset();
      backend_ = std::exchange(other.backend_, nullptr);
      data_ = std::exchange(other.data_, nullptr);
      bytes_ = std::exchange(other.bytes_, 0);
    }
    return *this;
  }

  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void reset() {
    if (data_ != nullptr) backend_->free(data_);
    data_ = nullptr;
  }

  Backend* backend_ = nullptr;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// Each implementation exports one symbol.
std::unique_ptr<Backend> ref_backend();
// isa: "" picks the best this machine has; "avx2", "avx512vnni" force one and throw Unsupported when it is absent.
std::unique_ptr<Backend> cpu_backend(const std::string& isa, std::shared_ptr<ThreadPool> pool);

}  // namespace comet
