// SPDX-License-Identifier: Apache-2.0
// Host memory for the CPU backend: zero-filled, 64-byte aligned, large blocks in 2 MB pages.
#pragma once

#include <cstddef>
#include <mutex>
#include <unordered_map>

namespace comet {

class CpuMemory {
 public:
  CpuMemory() = default;
  ~CpuMemory();
  CpuMemory(const CpuMemory&) = delete;
  CpuMemory& operator=(const CpuMemory&) = delete;

  // Throws InvalidInput when there is not enough.
  void* allocate(size_t bytes);
  void free(void* p);

 private:
  struct Mapping {
    void* base = nullptr;
    size_t bytes = 0;
  };
  std::mutex mutex_;
  std::unordered_map<void*, Mapping> mappings_;  // of large blocks, by the address handed out
};

// One block that only grows, for what a kernel needs during one call.
class CpuScratch {
 public:
  explicit CpuScratch(CpuMemory& memory) : memory_(&memory) {}
  ~CpuScratch() { memory_->free(data_); }
  CpuScratch(const CpuScratch&) = delete;
  CpuScratch& operator=(const CpuScratch&) = delete;

  // At least `bytes`; what an earlier call gave is no longer valid.
  void* reserve(size_t bytes);

 private:
  CpuMemory* memory_;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace comet
