// SPDX-License-Identifier: Apache-2.0
// Launches a kernel so that it may start while the kernel before it ends.
#pragma once

#include "kernels/cuda/cuda_check.h"

namespace comet::cuda {

struct LaunchConfig {
  int ctas = 0, threads = 0, shared_bytes = 0;
  cudaStream_t stream = nullptr;
  int cluster = 1;
  bool is_spread = false;  // no two CTAs of a cluster on an SM
};

template <class Args>
void launch_dependent(void (*kernel)(Args), const LaunchConfig& config, const Args& args) {
  cudaLaunchAttribute attributes[3]{};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {static_cast<unsigned>(config.cluster), 1, 1};
  attributes[2].id = cudaLaunchAttributeClusterSchedulingPolicyPreference;
  attributes[2].val.clusterSchedulingPolicyPreference = cudaClusterSchedulingPolicySpread;
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(config.ctas);
  launch.blockDim = dim3(config.threads);
  launch.dynamicSmemBytes = config.shared_bytes;
  launch.stream = config.stream;
  launch.attrs = attributes;
  launch.numAttrs = config.cluster > 1 ? (config.is_spread ? 3 : 2) : 1;
  COMET_CUDA_CHECK(cudaLaunchKernelEx(&launch, kernel, args));
}

// Clusters of such a launch that the GPU holds at once.
template <class Args>
int most_resident_clusters(void (*kernel)(Args), const LaunchConfig& config) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(config.cluster), 1, 1};
  cudaLaunchConfig_t launch{};
  launch.gridDim = dim3(config.ctas);
  launch.blockDim = dim3(config.threads);
  launch.dynamicSmemBytes = config.shared_bytes;
  launch.attrs = &attribute;
  launch.numAttrs = 1;
  int count = 0;
  COMET_CUDA_CHECK(cudaOccupancyMaxActiveClusters(&count, kernel, &launch));
  return count;
}

// Raises the kernel's limit of dynamic shared memory once.
template <class Kernel>
void allow_shared_bytes(Kernel* kernel, int bytes) {
  COMET_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
}

}  // namespace comet::cuda
