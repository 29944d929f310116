// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/quantize_act_sm80.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/cuda_check.h"

namespace comet::cuda {
namespace {

constexpr int kWarpGroups = 4, kWarpsOfAnSm = 48;  // as few as 48 on compute capability 8.6 and 8.9
constexpr int kReservedShared = 1024;              // of a CTA, beside kStaticShared
constexpr int kStaticShared = 1280;                // RowShared
constexpr int kRegisters = 65536;

constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

DeviceSm80 this_device() {
  static const DeviceSm80 device = [] {
    DeviceSm80 d;
    int id = 0;
    COMET_CUDA_CHECK(cudaGetDevice(&id));
    COMET_CUDA_CHECK(cudaDeviceGetAttribute(&d.num_sms, cudaDevAttrMultiProcessorCount, id));
    COMET_CUDA_CHECK(cudaDeviceGetAttribute(&d.shared_bytes, cudaDevAttrMaxSharedMemoryPerMultiprocessor, id));
    return d;
  }();
  return device;
}

// What __launch_bounds__ leave a thread; quantize_act_ax_sm80.cu.
int registers_of(const QuantizePlanSm80& plan, ActSource source) {
  switch (plan.rows) {
    case QuantizeRowsSm80::any: return 80;
    case QuantizeRowsSm80::silu: return 72;
    case QuantizeRowsSm80::picked: return source == ActSource::bf16 ? 64 : plan.threads <= 256 ? 80 : 128;
  }
  return 128;
}

}  // namespace

QuantizePlanSm80 plan_quantize_act_sm80(const QuantizeActProblem& p, bool is_permuted, bool is_aligned,
                                        const DeviceSm80& device) {
  const ActFormat& f = p.format;
  const int groups = f.num_groups(), warp_passes = ceil_div(groups, kWarpGroups);
  const int room = device.shared_bytes - kReservedShared - kStaticShared;
  const int v_bytes =
      make_steps_sm80(f.k, f.num_int8_groups, f.bits2).zero_steps * kZeroGroups * 2 * static_cast<int>(sizeof(int16_t));
  const bool is_whole = f.k_in % 8 == 0 && is_aligned;
  QuantizePlanSm80 plan;
  const int row_bytes = picked_row_bytes(p);
  if (p.source == ActSource::silu_mul && !is_permuted && is_whole && warp_passes <= 2 * kSiluThreadsSm80 / 32) {
    plan.rows = QuantizeRowsSm80::silu;
    // Few tokens: all the warps that an SM has for one. Many: two CTAs hide each other's barriers.
    plan.units = warp_passes <= 16 || (p.m <= device.num_sms && warp_passes <= kSiluThreadsSm80 / 32) ? 1 : 2;
    plan.threads = ceil_div(warp_passes, plan.units) * 32;
    plan.shared_bytes = v_bytes;
  } else if (p.source != ActSource::silu_mul && is_whole && warp_passes <= kPickedThreadsSm80 / 32 &&
             v_bytes + row_bytes <= room) {
    plan.rows = QuantizeRowsSm80::picked;
    plan.units = 1;
    plan.threads = warp_passes * 32;
    plan.stages = v_bytes + 2 * row_bytes <= room ? 2 : 1;
    plan.shared_bytes = v_bytes + plan.stages * row_bytes;
  } else {
    const int bytes = f.k_in * static_cast<int>(sizeof(float));
    plan.is_staged = (is_permuted || p.source == ActSource::rms_norm) && v_bytes + bytes <= room;
    plan.threads = std::min(kAnyThreadsSm80, warp_passes * 32);
    plan.shared_bytes = v_bytes + (plan.is_staged ? bytes : 0);
  }
  const int by_registers = kRegisters / (registers_of(plan, p.source) * plan.threads);
  const int by_shared = device.shared_bytes / (plan.shared_bytes + kReservedShared + kStaticShared);
  const int per_sm = std::clamp(std::min({by_registers, by_shared, kWarpsOfAnSm * 32 / plan.threads}), 1, 16);
  plan.ctas = std::min(padded_tokens_sm80(p.m), device.num_sms * per_sm);
  return plan;
}

std::string to_string(const QuantizePlanSm80& plan) {
  const char* const names[] = {"any", "picked", "silu"};
  return fmt::format("{} rows, {} groups a lane, {} stages{}, {} CTAs of {} threads and {} bytes",
                     names[static_cast<int>(plan.rows)], plan.units, plan.stages, plan.is_staged ? ", staged" : "",
                     plan.ctas, plan.threads, plan.shared_bytes);
}

void quantize_act_ax_sm80(const QuantizeActProblem& p, const QuantizeActArgs& args, cudaStream_t stream) {
  const ActFormat& f = p.format;
  COMET_CHECK(args.out.layout == ActLayout::packed_sm80, "quantize_act_ax_sm80 writes packed_sm80 only");
  COMET_CHECK(p.m > 0 && f.k_in > 0 && f.k > 0 && f.k % kGroup == 0 && f.num_int8_groups >= 0 &&
                  f.num_int8_groups <= f.num_groups() && (f.bits2 == 4 || f.bits2 == 8),
              "quantize_act_ax_sm80 got m = {}, k_in = {}, k = {}, n8 = {}, bits2 = {}; expected m and k_in > 0, k a "
              "positive multiple of 128, n8 of 0 to k / 128, bits2 of 4 or 8",
              p.m, f.k_in, f.k, f.num_int8_groups, f.bits2);
  COMET_CHECK(args.x != nullptr && args.out.values != nullptr && args.out.multipliers != nullptr &&
                  args.out.region1_factors != nullptr && args.out.scales != nullptr && args.out.sums != nullptr,
              "quantize_act_ax_sm80 needs x and all of out but group_sums");
  COMET_CHECK(p.source != ActSource::rms_norm || args.gain != nullptr, "quantize_act_ax_sm80: RMSNorm needs a gain");
  const bool is_aligned = reinterpret_cast<uintptr_t>(args.x) % 16 == 0;
  launch_quantize_act_ax_sm80(p, args, plan_quantize_act_sm80(p, args.perm != nullptr, is_aligned, this_device()),
                              stream);
}

}  // namespace comet::cuda
