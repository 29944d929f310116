// SPDX-License-Identifier: Apache-2.0
// The paged KV cache and the two ops that touch it: rope_append writes K and V, attention reads them. POD only.
#pragma once

#include "quant/kv.h"

namespace comet {

// Shape of one layer's cache. The byte order inside a kv_block belongs to the backend.
struct KvShape {
  int num_kv_heads = 0;
  int head_dim = 0;
  int bits = 4;  // 4, 8, or 16 (bf16: the baseline)

  int padded_dim() const { return (head_dim + kKeyGroup - 1) / kKeyGroup * kKeyGroup; }
  int num_key_groups() const { return padded_dim() / kKeyGroup; }
};

// A ragged batch: chunks of consecutive positions of several sequences. Arrays in the backend's memory.
struct BatchView {
  int num_tokens = 0;
  int num_seqs = 0;
  const int32_t* token_seqs = nullptr;       // [num_tokens] index of the token's sequence in this batch, ascending
  const int32_t* positions = nullptr;        // [num_tokens]; consecutive inside a sequence
  const int32_t* seq_first_token = nullptr;  // [num_seqs + 1] offsets into the tokens
  const int32_t* block_tables = nullptr;     // [num_seqs, block_table_stride]: position p lives in block table[p / 64]
  int block_table_stride = 0;
};

struct RopeAppendProblem {
  int num_heads = 0;
  KvShape kv;
  bool k_rotate = false;  // Hadamard over head_dim on K and q; head_dim is a power of two
};

struct RopeAppendArgs {
  const void* qkv = nullptr;      // [num_tokens, (num_heads + 2 * num_kv_heads) * head_dim]: q heads, k heads, v heads
  DType qkv_dtype = DType::bf16;  // bf16, or f32 on the unquantized path
  const float* cos = nullptr;     // [positions, head_dim / 2]
  const float* sin = nullptr;
  const void* q_norm = nullptr;  // [head_dim] gains of Qwen3's norms, or null
  const void* k_norm = nullptr;
  DType norm_dtype = DType::bf16;
  float norm_eps = 0.0f;
  BatchView batch;
  void* cache = nullptr;           // this layer's kv_blocks
  float* q = nullptr;              // out: f32 [num_tokens, num_heads, head_dim], after norm, RoPE and Hadamard
  uint32_t* row_errors = nullptr;  // [num_tokens], as in QuantizeActArgs
  uint32_t error_tag = 0;
};

struct AttentionProblem {
  int num_heads = 0;
  KvShape kv;
  DType out_dtype = DType::bf16;  // bf16, or f32 on the unquantized path
  int window = 0;                 // keys that a query sees, its own the last; 0: all up to its own
};

// The query at `position` sees the keys first_visible_key() .. position; those before are masked and never read.
inline int first_visible_key(const AttentionProblem& p, int position) {
  return p.window > 0 && position >= p.window ? position - p.window + 1 : 0;
}

struct AttentionArgs {
  const float* q = nullptr;  // f32 [num_tokens, num_heads, head_dim] as rope_append left it
  BatchView batch;
  const void* cache = nullptr;  // K and V up to and including each token's own position are in it
  void* out = nullptr;          // [num_tokens, num_heads * head_dim]
  uint32_t* row_errors = nullptr;
  uint32_t error_tag = 0;
};

// fp32(log2(e) / sqrt(d)): scores are kept in powers of two.
inline float score_scale(int head_dim) {
  return static_cast<float>(1.4426950408889634 / sqrt(static_cast<double>(head_dim)));
}

}  // namespace comet
