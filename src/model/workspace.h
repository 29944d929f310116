// SPDX-License-Identifier: Apache-2.0
// The buffers of one forward pass, sized once for the largest step.
#pragma once

#include "kernels/backend.h"
#include "model/config.h"

namespace comet {

struct Workspace {
  Workspace(Backend& backend, const ModelConfig& config, int max_tokens);

  // Over the acts memory, for m rows of k channels.
  QuantizedActs acts(int m, int k) const { return backend->bind_acts(acts_memory.data(), m, k); }

  Backend* backend;
  int max_tokens;
  DeviceBuffer residual;  // f32 [tokens, hidden]
  DeviceBuffer acts_memory;
  DeviceBuffer x;           // f32 [tokens, widest site]; w16 only
  DeviceBuffer qkv;         // bf16 or f32 [tokens, qkv rows]
  DeviceBuffer q;           // f32 [tokens, heads * head_dim]
  DeviceBuffer attn;        // bf16 or f32 [tokens, heads * head_dim]
  DeviceBuffer gate_up;     // bf16 or f32 [tokens, 2 * intermediate]
  DeviceBuffer row_errors;  // u32 [tokens]
};

// Bytes such a workspace takes.
size_t workspace_bytes(const Backend& backend, const ModelConfig& config, int max_tokens);

}  // namespace comet
