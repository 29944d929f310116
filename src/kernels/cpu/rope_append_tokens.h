// SPDX-License-Identifier: Apache-2.0
// rope_append of a run of tokens: what the dispatcher hands to an ISA. POD only.
#pragma once

#include "kernels/cpu/kv_layout.h"

namespace comet {

struct RopeAppendTokens {
  KvLayout layout;
  int num_heads, num_kv_heads, head_dim;
  bool k_rotate;
  bool qkv_is_bf16;              // else f32
  float hadamard_scale;          // hadamard_scale(head_dim)
  const void* qkv;               // [tokens, num_heads + 2 * num_kv_heads, head_dim]
  const float *cos, *sin;        // [positions, head_dim / 2]
  const float *q_gain, *k_gain;  // [kMaxHeadDim] Qwen3's norms, zeros behind head_dim; or null
  float norm_eps;
  const BatchView* batch;
  uint8_t* cache;
  float* q;              // out: [tokens, num_heads, head_dim]
  uint32_t* row_errors;  // [tokens]
  uint32_t error_tag;
  int64_t first, end;  // the tokens of this call
};

namespace avx2 {
void rope_append(const RopeAppendTokens& tokens);
}
namespace avx512vnni {
void rope_append(const RopeAppendTokens& tokens);
}

}  // namespace comet
