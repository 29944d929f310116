// SPDX-License-Identifier: Apache-2.0
// From int32 accumulators to the output, V::kLanes channels at a time; V is a Vec of one ISA.
#pragma once

#include "kernels/cpu/gemm_tile.h"

// Unrolls the next loop completely (up to 32 rounds): its arrays of vectors live in registers.
#if defined(__clang__)
#define COMET_UNROLL _Pragma("unroll")
#else
#define COMET_UNROLL _Pragma("GCC unroll 32")
#endif

namespace comet {

template <class V, typename T>
static inline typename V::F load_some(const T* p, int count) {
  return count >= V::kLanes ? V::load(p) : V::load_partial(p, count);
}

template <class V, typename T>
static inline void store_some(T* p, typename V::F x, int count) {
  if (count >= V::kLanes)
    V::store(p, x);
  else
    V::store_partial(p, x, count);
}

// y = (float(acc) * sx) * s0 (+ bias) for token t and the channels [channel, channel + kLanes) of the panel.
template <class V>
static inline void store_channels(const GemmTile& tile, int t, int channel, typename V::I acc) {
  const int count = tile.num_channels - channel;
  if (count <= 0) return;
  typename V::F y = V::mul(V::to_float(acc), V::set(tile.scales[t]));
  y = V::mul(y, load_some<V>(tile.channel_scales + channel, count));
  if (tile.bias != nullptr) y = V::add(y, load_some<V>(tile.bias + channel, count));
  const int64_t at = t * tile.d_stride + channel;
  if (tile.output == GemmOutput::bf16) {
    store_some<V>(static_cast<bf16*>(tile.d) + at, y, count);
    return;
  }
  float* d = static_cast<float*>(tile.d) + at;
  if (tile.output == GemmOutput::add_f32) y = V::add(load_some<V>(d, count), y);
  store_some<V>(d, y, count);
}

}  // namespace comet
