// SPDX-License-Identifier: Apache-2.0
#include "model/workspace.h"

#include <algorithm>

namespace comet {
namespace {

struct Sizes {
  size_t residual, acts, x, qkv, q, attn, gate_up, row_errors;
};

Sizes sizes_of(const Backend& backend, const ModelConfig& c, int max_tokens) {
  const size_t tokens = static_cast<size_t>(max_tokens);
  const bool quantized = c.quantization.has_value();
  const size_t element = quantized ? sizeof(bf16) : sizeof(float);
  int widest = 0;
  for (const Site site : kSites) widest = std::max(widest, c.site_channels(site));
  const size_t heads = static_cast<size_t>(c.num_heads) * c.head_dim;
  size_t acts = 0;
  for (const Site site : kSites)
    acts = std::max(acts, backend.acts_bytes(max_tokens, padded_channels(c.site_channels(site))));
  return {.residual = tokens * c.hidden_size * sizeof(float),
          .acts = quantized ? acts : 0,
          .x = quantized ? 0 : tokens * widest * sizeof(float),
          .qkv = tokens * c.num_qkv_rows() * element,
          .q = tokens * heads * sizeof(float),
          .attn = tokens * heads * element,
          .gate_up = tokens * 2 * c.intermediate_size * element,
          .row_errors = tokens * sizeof(uint32_t)};
}

}  // namespace

Workspace::Workspace(Backend& b, const ModelConfig& config, int tokens) : backend(&b), max_tokens(tokens) {
  const Sizes s = sizes_of(b, config, tokens);
  residual = DeviceBuffer(b, s.residual);
  acts_memory = DeviceBuffer(b, s.acts);
  x = DeviceBuffer(b, s.x);
  qkv = DeviceBuffer(b, s.qkv);
  q = DeviceBuffer(b, s.q);
  attn = DeviceBuffer(b, s.attn);
  gate_up = DeviceBuffer(b, s.gate_up);
  row_errors = DeviceBuffer(b, s.row_errors);
}

size_t workspace_bytes(const Backend& backend, const ModelConfig& config, int max_tokens) {
  const Sizes s = sizes_of(backend, config, max_tokens);
  return s.residual + s.acts + s.x + s.qkv + s.q + s.attn + s.gate_up + s.row_errors;
}

}  // namespace comet
