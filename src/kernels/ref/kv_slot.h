// SPDX-License-Identifier: Apache-2.0
// One slot of the reference cache (byte order in ops_ref.h).
#pragma once

#include <cstring>

#include "kernels/ref/ops_ref.h"

namespace comet {

struct KvParamsRef {
  uint16_t scale;
  uint8_t zero, unused;
};

struct KvSlotRef {
  int8_t *k = nullptr, *v = nullptr;  // kv4, kv8: codes [padded_dim]
  KvParamsRef* params = nullptr;      // [num_key_groups] of K, then V's
  bf16 *k16 = nullptr, *v16 = nullptr;
};

inline KvSlotRef slot_ref(const KvShape& kv, void* cache, const BatchView& batch, int seq, int position, int kv_head) {
  const int block = batch.block_tables[int64_t{seq} * batch.block_table_stride + position / kKvBlock];
  const size_t index = (static_cast<size_t>(block) * kv.num_kv_heads + kv_head) * kKvBlock + position % kKvBlock;
  const int dim = kv.padded_dim();
  KvSlotRef slot;
  slot.k = static_cast<int8_t*>(cache) + index * kv_slot_bytes_ref(kv);
  slot.v = slot.k + dim;
  slot.params = reinterpret_cast<KvParamsRef*>(slot.v + dim);
  slot.k16 = reinterpret_cast<bf16*>(slot.k);
  slot.v16 = slot.k16 + dim;
  return slot;
}

inline void clear_slot_ref(const KvShape& kv, const KvSlotRef& slot) { memset(slot.k, 0, kv_slot_bytes_ref(kv)); }

}  // namespace comet
