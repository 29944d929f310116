// SPDX-License-Identifier: Apache-2.0
// Without overlap inside a warpgroup (wait for the stage, unpack, multiply, wait for the products), and that with a
// ring of one stage.
#include "bench/gemm/gemm_ablation.cuh"

namespace comet::cuda {
namespace {

struct InTurnW4 : WeightsW4 {};
struct OneStageW4 : WeightsW4 {};

template <class Weights, int kTileM, int kStages, int kSides>
__device__ __forceinline__ void mainloop_in_turn(const GemmConsumer<Weights, kTileM, kStages, kSides, kTileRows>& c,
                                                 int32_t (&acc)[kTileM / 2], const Work& work,
                                                 RingCursor<kStages>& ring, const RingCursor<kTokenSlots>& slots) {
  using Shared = GemmShared<Weights, kTileM, kStages, kSides, kTileRows>;
  const int first = work.begin + (kSides == 1 ? 0 : c.at.side);
  const int region1_end = first < c.args.num_int8_groups ? min(c.args.num_int8_groups, work.end) : -1;
  uint32_t a[16];
#pragma unroll 1
  for (int group = first; group < work.end; ring.template advance<kSides>()) {
    ptx::mbarrier_wait(Shared::full(c.base, ring.slot), ring.parity);
#pragma unroll 1
    for (int i = 0; i < Shared::kGroups && group < work.end; ++i) {
      c.unpack(ring.slot, i, a);
      c.multiply(acc, a, ring.slot, i, group != first);
      ptx::wgmma_wait<0>();
      const bool is_region1 = group < region1_end;
      group += kSides;
      if (is_region1 && group >= region1_end) {
        ptx::mbarrier_wait(Shared::values_full(c.base, slots.slot), slots.parity);
        c.scale_region1(acc, Shared::values(c.base, slots.slot));
      }
    }
    ptx::mbarrier_arrive(Shared::empty(c.base, ring.slot));
  }
  ptx::wait_for_previous_kernel();
  ptx::mbarrier_wait(Shared::values_full(c.base, slots.slot), slots.parity);
}

}  // namespace

// As much memory as the product has, so that as many CTAs fit an SM and a cluster has room to add up.
template <int kTileM, int kSides>
struct GemmShared<OneStageW4, kTileM, kSides, kSides, kTileRows>
    : GemmShared<WeightsW4, kTileM, product_stages(kTileM, kSides), kSides, kTileRows> {};

template <>
__device__ __forceinline__ void GemmConsumer<InTurnW4, 64, 5, 1, kTileRows>::mainloop(
    int32_t (&acc)[32], const Work& work, RingCursor<5>& ring, const RingCursor<kTokenSlots>& slots) const {
  mainloop_in_turn(*this, acc, work, ring, slots);
}
template <>
__device__ __forceinline__ void GemmConsumer<InTurnW4, 64, 10, 2, kTileRows>::mainloop(
    int32_t (&acc)[32], const Work& work, RingCursor<10>& ring, const RingCursor<kTokenSlots>& slots) const {
  mainloop_in_turn(*this, acc, work, ring, slots);
}
template <>
__device__ __forceinline__ void GemmConsumer<InTurnW4, 128, 4, 1, kTileRows>::mainloop(
    int32_t (&acc)[64], const Work& work, RingCursor<4>& ring, const RingCursor<kTokenSlots>& slots) const {
  mainloop_in_turn(*this, acc, work, ring, slots);
}
template <>
__device__ __forceinline__ void GemmConsumer<InTurnW4, 256, 5, 1, kTileRows>::mainloop(
    int32_t (&acc)[128], const Work& work, RingCursor<5>& ring, const RingCursor<kTokenSlots>& slots) const {
  mainloop_in_turn(*this, acc, work, ring, slots);
}
template <>
__device__ __forceinline__ void GemmConsumer<OneStageW4, 64, 1, 1, kTileRows>::mainloop(
    int32_t (&acc)[32], const Work& work, RingCursor<1>& ring, const RingCursor<kTokenSlots>& slots) const {
  mainloop_in_turn(*this, acc, work, ring, slots);
}
template <>
__device__ __forceinline__ void GemmConsumer<OneStageW4, 64, 2, 2, kTileRows>::mainloop(
    int32_t (&acc)[32], const Work& work, RingCursor<2>& ring, const RingCursor<kTokenSlots>& slots) const {
  mainloop_in_turn(*this, acc, work, ring, slots);
}
template <>
__device__ __forceinline__ void GemmConsumer<OneStageW4, 128, 1, 1, kTileRows>::mainloop(
    int32_t (&acc)[64], const Work& work, RingCursor<1>& ring, const RingCursor<kTokenSlots>& slots) const {
  mainloop_in_turn(*this, acc, work, ring, slots);
}
template <>
__device__ __forceinline__ void GemmConsumer<OneStageW4, 256, 1, 1, kTileRows>::mainloop(
    int32_t (&acc)[128], const Work& work, RingCursor<1>& ring, const RingCursor<kTokenSlots>& slots) const {
  mainloop_in_turn(*this, acc, work, ring, slots);
}

void launch_without_overlap(const GemmKernelArgs& args, const GemmPlan& plan, const LaunchShape& shape) {
  launch_ablation<InTurnW4>(args, plan, shape);
}
void launch_without_pipeline(const GemmKernelArgs& args, const GemmPlan& plan, const LaunchShape& shape) {
  launch_ablation<OneStageW4, true>(args, plan, shape);
}

}  // namespace comet::cuda
