// SPDX-License-Identifier: Apache-2.0
// Owned device memory of benchmarks and device tests.
#pragma once

#include <cstring>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_check.h"

namespace comet::cuda {

template <typename T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(size_t size) : size_(size) {
    COMET_CUDA_CHECK(cudaMalloc(reinterpret_cast<void**>(&data_), size * sizeof(T) + 16));
    fill_bytes(0);
  }
  explicit DeviceArray(const std::vector<T>& host) : DeviceArray(host.size()) {
    COMET_CUDA_CHECK(cudaMemcpy(data_, host.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(DeviceArray&& other) noexcept { *this = std::move(other); }
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  T* data() const { return data_; }
  size_t size() const { return size_; }
  size_t bytes() const { return size_ * sizeof(T); }
  void fill_bytes(int byte) { COMET_CUDA_CHECK(cudaMemset(data_, byte, bytes())); }
  std::vector<T> to_host() const {
    std::vector<T> host(size_);
    COMET_CUDA_CHECK(cudaMemcpy(host.data(), data_, bytes(), cudaMemcpyDeviceToHost));
    return host;
  }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace comet::cuda
