// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm/data.h"
#include "bench/gemm/layer.h"
#include "bench/gemm/loops.h"
#include "kernels/cuda/gemm_w4ax_sm90.cuh"

namespace comet::cuda {
namespace {

constexpr int kLoopGroups = 1024;  // of a side and launch
constexpr double kReplayUs = 1000.0;

// The stages of the product's ring are filled once and taken in turn.
template <int kTileM, int kStages, int kSides>
__global__ void __launch_bounds__(consumer_warps(kSides, kTileRows) * 32, 1)
    gemm_loop_kernel(const __grid_constant__ GemmKernelArgs args) {
  using Shared = GemmShared<WeightsW4, kTileM, kStages, kSides, kTileRows>;
  extern __shared__ __align__(1024) uint8_t shared[];
  const uint32_t base = ptx::shared_address(shared);
  for (int i = threadIdx.x * 16; i < Shared::kStagingAt; i += blockDim.x * 16)
    *reinterpret_cast<uint4*>(shared + i) =
        i < Shared::kWeightsAt ? *reinterpret_cast<const uint4*>(args.values + i)
                               : *reinterpret_cast<const uint4*>(args.weights + i - Shared::kWeightsAt);
  ptx::fence_async_proxy();
  __syncthreads();
  const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  const Fragment at{warp / side_warps(kTileRows), warp % side_warps(kTileRows) / 4, static_cast<int>(threadIdx.x % 128),
                    warp % 4, static_cast<int>(threadIdx.x % 32)};
  const GemmConsumer<WeightsW4, kTileM, kStages, kSides, kTileRows> consumer{args, base, at};
  int32_t acc[kTileM / 2];
  uint32_t a[2][16];
  RingCursor<kStages> ring{kSides == 1 ? 0 : at.side, 0};
  consumer.unpack(ring.slot, 0, a[0]);
#pragma unroll 1
  for (int i = 0; i < kLoopGroups; i += 2) {
    consumer.multiply(acc, a[0], ring.slot, 0, i > 0);
    if constexpr (Shared::kGroups == 1) ring.template advance<kSides>();
    constexpr int kSecond = Shared::kGroups - 1;
    consumer.unpack(ring.slot, kSecond, a[1]);
    consumer.multiply(acc, a[1], ring.slot, kSecond, true);
    ring.template advance<kSides>();
    consumer.unpack(ring.slot, 0, a[0]);
  }
  ptx::wgmma_wait<0>();
  int32_t all = static_cast<int32_t>(a[0][0]);
#pragma unroll
  for (int i = 0; i < kTileM / 2; ++i) all ^= acc[i];
  static_cast<int32_t*>(args.d)[blockIdx.x * blockDim.x + threadIdx.x] = all;  // so that nothing is left out
}

template <int kTileM, int kStages, int kSides>
void launch_loop(const GemmKernelArgs& args, int sms, cudaStream_t stream) {
  constexpr int kShared = GemmShared<WeightsW4, kTileM, kStages, kSides, kTileRows>::kBytes;
  auto* kernel = gemm_loop_kernel<kTileM, kStages, kSides>;
  static const bool allowed = (allow_shared_bytes(kernel, kShared), true);
  static_cast<void>(allowed);
  kernel<<<sms, consumer_warps(kSides, kTileRows) * 32, kShared, stream>>>(args);
  COMET_CUDA_CHECK(cudaGetLastError());
}

struct Loop : Replay {
  int tile_m, sides;
  Acts acts;

  Loop(int tile_m, int sides, int k) : tile_m(tile_m), sides(sides), acts(tile_m, k, ActLayout::tiles_sm90) {}
};

}  // namespace

std::vector<gemm_bench::LoopRate> measure_loops(ReplayTimer& timer, int sms, cudaStream_t stream, int rounds) {
  constexpr int kMostStageGroups = 14, kMostThreads = 512, kK = kMostStageGroups * kGroup;
  const W4Layer layer(kTileRows, kK, stream);
  const DeviceArray<int32_t> out(static_cast<size_t>(sms) * kMostThreads);
  std::vector<std::unique_ptr<Loop>> loops;
  const auto add = [&](int tile_m, int sides, auto* launch) {
    auto loop = std::make_unique<Loop>(tile_m, sides, kK);
    loop->acts.fill(Regions(kK, 0));
    GemmKernelArgs args;
    args.weights = static_cast<const uint8_t*>(layer.copy(0).data);
    args.values = loop->acts.tiles.data();
    args.d = const_cast<int32_t*>(out.data());
    loop->launch = [=](int) { launch(args, sms, stream); };
    loops.push_back(std::move(loop));
  };
  add(32, 1, launch_loop<32, 7, 1>);
  add(32, 2, launch_loop<32, 14, 2>);
  add(64, 1, launch_loop<64, 5, 1>);
  add(64, 2, launch_loop<64, 10, 2>);
  add(128, 1, launch_loop<128, 4, 1>);
  add(256, 1, launch_loop<256, 5, 1>);
  COMET_CUDA_CHECK(cudaDeviceSynchronize());
  std::vector<Replay*> replays;
  for (const auto& loop : loops) replays.push_back(loop.get());
  timer.run(replays, {.rounds = rounds, .replay_us = kReplayUs, .clocks = true});
  std::vector<gemm_bench::LoopRate> rates;
  for (const auto& loop : loops) {
    const double groups = static_cast<double>(kLoopGroups) * loop->sides;
    rates.push_back({.tile_m = loop->tile_m,
                     .sides = loop->sides,
                     .clocks = loop->us * loop->mhz / groups,
                     .tops = 2.0 * kTileRows * kGroup * loop->tile_m * groups * sms / loop->us / 1e6,
                     .mhz = loop->mhz});
  }
  return rates;
}

}  // namespace comet::cuda
