// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm/stream.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx/barrier.cuh"
#include "kernels/cuda/ptx/launch.cuh"
#include "kernels/cuda/ptx/memory.cuh"

namespace comet::cuda {
namespace {

// The fastest of those tried (docs/kernels.md): two CTAs an SM, pieces dealt round.
constexpr int kCtasPerSm = 2, kPieceBytes = 16640, kSlots = 6;
constexpr int kBarriersAt = kSlots * kPieceBytes, kSharedBytes = kBarriersAt + kSlots * 8;

struct StreamArgs {
  const uint8_t* weights;
  size_t bytes;  // a multiple of 16
  uint32_t* out;
};

__global__ void __launch_bounds__(32) stream_kernel(const __grid_constant__ StreamArgs a) {
  extern __shared__ __align__(128) uint8_t shared[];
  const uint32_t base = ptx::shared_address(shared);
  const int pieces = static_cast<int>((a.bytes + kPieceBytes - 1) / kPieceBytes), step = gridDim.x;
  uint32_t seen = 0;
  ptx::allow_next_kernel();
  if (threadIdx.x == 0) {
    for (int slot = 0; slot < kSlots; ++slot) ptx::mbarrier_init(base + kBarriersAt + slot * 8, 1);
    ptx::fence_mbarrier_init();
    const uint64_t once = ptx::read_once();
    int ahead = blockIdx.x, slot = 0;
    uint32_t parity = 0;
    const auto ask = [&](int to) {
      if (ahead >= pieces) return;
      const size_t from = static_cast<size_t>(ahead) * kPieceBytes;
      const uint32_t bytes = static_cast<uint32_t>(min(a.bytes - from, static_cast<size_t>(kPieceBytes)));
      ptx::mbarrier_arrive_expect(base + kBarriersAt + to * 8, bytes);
      ptx::bulk_copy_once(base + to * kPieceBytes, a.weights + from, bytes, base + kBarriersAt + to * 8, once);
      ahead += step;
    };
    for (int to = 0; to < kSlots; ++to) ask(to);
    ptx::wait_for_previous_kernel();
    seen = *static_cast<const volatile uint32_t*>(a.out);
    for (int i = blockIdx.x; i < pieces; i += step) {
      ptx::mbarrier_wait(base + kBarriersAt + slot * 8, parity);
      seen += ptx::load_shared_u32(base + slot * kPieceBytes);
      ask(slot);  // may overtake the load, which is of no account
      if (++slot == kSlots) slot = 0, parity ^= 1u;
    }
  } else {
    ptx::wait_for_previous_kernel();
  }
  a.out[blockIdx.x * 32 + threadIdx.x] = seen;
}

}  // namespace

void launch_stream(const PackedWeights& weights, uint32_t* out, int sms, cudaStream_t stream) {
  static const bool allowed = (allow_shared_bytes(stream_kernel, kSharedBytes), true);
  static_cast<void>(allowed);
  launch_dependent(stream_kernel, {kCtasPerSm * sms, 32, kSharedBytes, stream},
                   StreamArgs{static_cast<const uint8_t*>(weights.data), weights.bytes, out});
}

}  // namespace comet::cuda
