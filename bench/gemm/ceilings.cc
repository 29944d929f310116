// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm/ceilings.h"

#include <fstream>
#include <sstream>

#include "base/check.h"
#include "bench/gemm/copy.h"
#include "bench/gemm/data.h"

namespace comet::cuda {
namespace {

// A loop of u8 x s8 wgmma alone: 1,850 TOPS on the 132 SMs of an H200 at 700 W (docs/kernels.md).
constexpr double kInt8TopsPerSm = 1850.0 / 132.0;

// "580.95.05" of the driver's module; "" where it is not told.
std::string driver_version() {
  std::ifstream in("/proc/driver/nvidia/version");
  std::string line;
  std::getline(in, line);
  std::istringstream words(line);
  for (std::string word; words >> word;)
    if (word.find_first_not_of("0123456789.") == std::string::npos && word.find('.') != std::string::npos) return word;
  return "";
}

}  // namespace

cudaDeviceProp open_hopper() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0)
    throw_unsupported("bench gemm needs a Hopper GPU and its driver: {}",
                      status != cudaSuccess ? cudaGetErrorString(status) : "no GPU is visible");
  cudaDeviceProp device{};
  COMET_CUDA_CHECK(cudaGetDeviceProperties(&device, 0));
  if (device.major != 9)
    throw_unsupported("bench gemm needs a Hopper GPU (sm_90), GPU 0 is {} (sm_{}{})", device.name, device.major,
                      device.minor);
  return device;
}

CopyRates measure_copy(ReplayTimer& timer, int sms, cudaStream_t stream, int rounds) {
  constexpr size_t kBytes = size_t{1} << 30;
  const DeviceArray<uint8_t> from(kBytes), to(kBytes);
  make_dense(from.data(), kBytes / 4, DenseType::f32, 5);
  COMET_CUDA_CHECK(cudaDeviceSynchronize());
  std::vector<Replay> replays(2);
  replays[0].launch = [&](int) { launch_copy(to.data(), from.data(), kBytes, sms, stream); };
  replays[1].launch = [&](int) {
    COMET_CUDA_CHECK(cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice, stream));
  };
  run_replays(timer, replays, {.rounds = rounds, .replay_us = 2500.0, .clocks = false});
  return {2.0 * kBytes / replays[0].us / 1e6, 2.0 * kBytes / replays[1].us / 1e6};
}

gemm_bench::Machine describe(const cudaDeviceProp& device, double copy_tb_per_s) {
  gemm_bench::Machine machine;
  machine.gpu = device.name;
  machine.driver = driver_version();
  machine.sms = device.multiProcessorCount;
  COMET_CUDA_CHECK(cudaDriverGetVersion(&machine.cuda_driver));
  machine.copy_tb_per_s = copy_tb_per_s;
  machine.int8_tops = kInt8TopsPerSm * device.multiProcessorCount;
  return machine;
}

}  // namespace comet::cuda
