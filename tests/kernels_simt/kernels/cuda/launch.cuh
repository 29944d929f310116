// SPDX-License-Identifier: Apache-2.0
// A launch on the CPU: one CTA after the other, each over poisoned shared memory.
#pragma once

#include "kernels/cuda/ptx/barrier.cuh"

namespace comet::cuda {

struct LaunchConfig {
  int ctas = 0, threads = 0, shared_bytes = 0;
  cudaStream_t stream = nullptr;
};

template <class Args>
void launch_dependent(void (*kernel)(Args), const LaunchConfig& config, const Args& args) {
  for (int cta = 0; cta < config.ctas; ++cta) {
    std::memset(ptx::shared_memory, 0x7f, config.shared_bytes);
    simt::run_cta(cta, config.ctas, config.threads, [&] { kernel(args); });
  }
}

template <class Kernel>
void allow_shared_bytes(Kernel*, int) {}

}  // namespace comet::cuda
