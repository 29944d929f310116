// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <vector>

#include "kernels/ref/kv_slot.h"
#include "kernels/ref/ops_ref.h"

namespace comet {
namespace {

// Norm, RoPE and Hadamard of one head, in place; pairs are (i, i + d/2).
void transform_head(const RopeAppendProblem& p, const RopeAppendArgs& args, const void* norm, int position, float* x) {
  const int d = p.kv.head_dim, half = d / 2;
  if (norm != nullptr) {
    const float inv = rms_inverse(sum_of_squares(x, d), d, args.norm_eps);
    for (int i = 0; i < d; ++i) x[i] = (x[i] * inv) * load_float(norm, args.norm_dtype, i);
  }
  const float* c = args.cos + int64_t{position} * half;
  const float* s = args.sin + int64_t{position} * half;
  for (int i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    const float ac = a * c[i], bs = b * s[i], bc = b * c[i], as = a * s[i];
    x[i] = ac - bs;
    x[i + half] = bc + as;
  }
  if (p.k_rotate) hadamard(x, d, hadamard_scale(d));
}

// Quantizes a padded head; false when a value or scale is not finite (codes are then all zero).
bool encode(const float* x, int n, int group, int bits, int8_t* codes, KvParamsRef* params) {
  bool finite = true;
  for (int g = 0; g * group < n; ++g) {
    const KvGroupParams p = kv_group_params(x + g * group, group, bits);
    finite = finite && p.is_finite;
    params[g] = {p.scale.bits, p.zero, 0};
    for (int i = g * group; i < (g + 1) * group; ++i)
      codes[i] = p.is_finite ? static_cast<int8_t>(kv_encode(x[i], p, bits)) : int8_t{0};
  }
  return finite;
}

}  // namespace

size_t kv_slot_bytes_ref(const KvShape& kv) {
  const size_t dim = static_cast<size_t>(kv.padded_dim());
  if (kv.bits == 16) return 2 * dim * sizeof(bf16);
  return 2 * dim + static_cast<size_t>(kv.num_key_groups() + 1) * sizeof(KvParamsRef);
}

void rope_append_ref(const RopeAppendProblem& p, const RopeAppendArgs& args) {
  const KvShape& kv = p.kv;
  const int d = kv.head_dim, dim = kv.padded_dim();
  const int num_heads = p.num_heads + 2 * kv.num_kv_heads;
  for (int64_t t = 0; t < args.batch.num_tokens; ++t) {
    const int position = args.batch.positions[t];
    std::vector<std::vector<float>> heads(static_cast<size_t>(num_heads),
                                          std::vector<float>(static_cast<size_t>(dim), 0.0f));
    bool finite = true;
    for (int h = 0; h < num_heads; ++h) {
      std::vector<float>& x = heads[h];
      for (int i = 0; i < d; ++i) x[i] = load_float(args.qkv, args.qkv_dtype, (t * num_heads + h) * d + i);
      if (h < p.num_heads + kv.num_kv_heads)
        transform_head(p, args, h < p.num_heads ? args.q_norm : args.k_norm, position, x.data());
      finite = finite && std::all_of(x.begin(), x.end(), [](float v) { return is_finite(v); });
    }
    for (int h = 0; h < kv.num_kv_heads; ++h) {
      const float* key = heads[p.num_heads + h].data();
      const float* value = heads[p.num_heads + kv.num_kv_heads + h].data();
      const KvSlotRef slot = slot_ref(kv, args.cache, args.batch, args.batch.token_seqs[t], position, h);
      if (kv.bits == 16) {
        for (int i = 0; i < dim; ++i) {
          slot.k16[i] = to_bf16(key[i]);
          slot.v16[i] = to_bf16(value[i]);
        }
      } else {
        finite = encode(key, dim, kKeyGroup, kv.bits, slot.k, slot.params) && finite;
        finite = encode(value, dim, dim, kv.bits, slot.v, slot.params + kv.num_key_groups()) && finite;
      }
    }
    if (!finite) {  // the whole row counts as zero, so that nothing non-finite reaches anyone
      if (args.row_errors[t] == 0) args.row_errors[t] = args.error_tag;
      for (int h = 0; h < kv.num_kv_heads; ++h)
        clear_slot_ref(kv, slot_ref(kv, args.cache, args.batch, args.batch.token_seqs[t], position, h));
    }
    for (int h = 0; h < p.num_heads; ++h)
      for (int i = 0; i < d; ++i) args.q[(t * p.num_heads + h) * d + i] = finite ? heads[h][i] : 0.0f;
  }
}

}  // namespace comet
