// SPDX-License-Identifier: Apache-2.0
// One task of CPU attention: a few query rows of one KV head over a run of kv_blocks. POD only.
#pragma once

#include "kernels/cpu/kv_layout.h"

namespace comet {

// Query rows of a task: (token, query head) pairs, token major. They share every kv_block that is read, and their state
// (two outputs of padded_dim floats a row) fits the first-level cache at head_dim 64.
constexpr int kTileRows = 32;

// Floats of one split's result {O [dim], m, l} in AttentionTile::partials; dim padded.
constexpr int kPartialTail = 16;
COMET_HD int64_t partial_floats(int dim) { return dim + kPartialTail; }

struct AttentionTile {
  KvLayout layout;
  int head_dim;
  float score_scale;           // score_scale(head_dim)
  const uint8_t* cache;        // the KV head in kv_block 0
  size_t block_stride;         // bytes between kv_blocks
  const int32_t* block_table;  // of the sequence
  int first_block, end_block;  // attend: the kv_blocks of this task; first_block starts a split or the rows' windows
  int first_split;             // of the first row's window: where partials begin
  int num_rows;
  const float* q[kTileRows];     // [head_dim]
  int first_visible[kTileRows];  // ascending; 0 without a window
  int num_keys[kTileRows];       // position + 1, ascending: the row sees keys [first_visible, num_keys)
  void* out[kTileRows];          // [head_dim]
  bool out_is_bf16;
  // null: attend folds all splits and writes out. Else attend writes its splits, [split - first_split][row], and fold
  // reads all of them and writes out.
  float* partials;
};

// Each returns the set of rows (bit r) whose q is not finite; their outputs are zeros.
struct AttentionKernel {
  uint32_t (*attend)(const AttentionTile& tile);
  uint32_t (*fold)(const AttentionTile& tile);
};

namespace avx2 {
extern const AttentionKernel attention_kv4, attention_kv8, attention_kv16;
}
namespace avx512vnni {
extern const AttentionKernel attention_kv4, attention_kv8, attention_kv16;
}

}  // namespace comet
