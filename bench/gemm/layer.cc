// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm/layer.h"

#include "bench/gemm/data.h"
#include "kernels/cuda/gemm_sm90.h"
#include "kernels/cuda/layouts_sm90.h"

namespace comet::cuda {

Regions::Regions(int k, int share4) {
  const int groups = k / kGroup;
  n8 = share4 == 0 ? 0 : groups - groups * share4 / 100;
  bits2 = share4 == 0 ? 8 : 4;
}

W4Layer::W4Layer(int n_, int k_, cudaStream_t stream)
    : n(n_),
      k(k_),
      codes(static_cast<size_t>(n) * k / 2),
      group_scales(static_cast<size_t>(n) * k / kGroup),
      group_zeros(group_scales.size()),
      channel_scales(n),
      bytes(packed_weight_bytes(n, k, kUnitBytesW4)) {
  copies = copies_of(bytes);
  packed = DeviceArray<uint8_t>(bytes * copies);
  make_weights_w4(codes.data(), group_scales.data(), group_zeros.data(), channel_scales.data(), n, k, 1);
  COMET_CUDA_CHECK(cudaDeviceSynchronize());
  for (int i = 0; i < copies; ++i)
    pack_w4ax_sm90({n, k, codes.data(), group_scales.data(), group_zeros.data(), nullptr}, packed.data() + i * bytes,
                   stream);
  COMET_CUDA_CHECK(cudaDeviceSynchronize());
}

Acts::Acts(int m_, int k_, ActLayout layout_)
    : m(m_),
      k(k_),
      layout(layout_),
      rows(static_cast<size_t>(m) * k),
      tiles(static_cast<size_t>(padded_tokens(m)) * k),
      sums(padded_tokens(m)),
      scales(padded_tokens(m)),
      factors(padded_tokens(m)) {}

void Acts::fill(const Regions& regions) {
  make_activations({rows.data(), tiles.data(), sums.data(), scales.data(), factors.data(), layout}, m, k, regions.n8,
                   regions.bits2);
  COMET_CUDA_CHECK(cudaDeviceSynchronize());
}

void Acts::poison() {
  rows.fill_bytes(0x55), tiles.fill_bytes(0x55), sums.fill_bytes(0x55), scales.fill_bytes(0x55);
  factors.fill_bytes(0x55);
  COMET_CUDA_CHECK(cudaDeviceSynchronize());
}

QuantizedActs Acts::args() const {
  QuantizedActs a;
  a.layout = layout;
  a.values = tiles.data();
  a.region1_factors = factors.data();
  a.scales = scales.data();
  a.sums = sums.data();
  return a;
}

Scratch::Scratch(const std::vector<GemmPlan>& plans) {
  size_t partial_bytes = 0, counter_bytes = 0;
  for (const GemmPlan& plan : plans) {
    partial_bytes = std::max(partial_bytes, plan.partial_bytes());
    counter_bytes = std::max(counter_bytes, plan.counter_bytes());
  }
  partials = DeviceArray<uint8_t>(partial_bytes + 16);
  counters = DeviceArray<uint32_t>(counter_bytes / 4 + 4);
}

int count_wrong_outputs(const GemmProblem& p, const W4Layer& layer, const Acts& acts, const void* d) {
  const CheckArgs args{layer.codes.data(),
                       layer.group_scales.data(),
                       layer.group_zeros.data(),
                       layer.channel_scales.data(),
                       acts.rows.data(),
                       acts.scales.data(),
                       acts.factors.data(),
                       static_cast<const uint16_t*>(d),
                       p.m,
                       p.n,
                       p.k,
                       p.num_int8_groups};
  return count_wrong(args);
}

}  // namespace comet::cuda
