// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/ref/kv_slot.h"
#include "kernels/ref/ops_ref.h"

namespace comet {
namespace {

// Running softmax state of one query row: maximum, sum, unnormalized output.
struct Partial {
  float m = 0.0f, l = 0.0f;
  std::vector<float> o;
  bool is_empty = true;

  // Folds a later member in.
  void merge(const Partial& next) {
    if (next.is_empty) return;
    if (is_empty) {
      *this = next;
      return;
    }
    const float top = std::max(m, next.m);
    const float scale = exp2_stated(m - top), next_scale = exp2_stated(next.m - top);
    for (size_t i = 0; i < o.size(); ++i) o[i] = fmaf(next.o[i], next_scale, o[i] * scale);
    l = fmaf(next.l, next_scale, l * scale);
    m = top;
  }
};

struct QuantizedQuery {
  std::vector<int> codes;  // [padded_dim]
  float c = 0.0f;          // score = c * (integer dots and key scales)
};

QuantizedQuery quantize_query(const float* q, int d, int dim) {
  QuantizedQuery out{std::vector<int>(static_cast<size_t>(dim), 0), 0.0f};
  float amax = 0.0f;
  for (int i = 0; i < d; ++i) amax = std::max(amax, std::fabs(q[i]));
  if (amax < kMinAmax) return out;
  const float sq = amax / 127.0f, inv = 1.0f / sq;
  for (int i = 0; i < d; ++i) out.codes[i] = static_cast<int>(clampf(rne(q[i] * inv), -127.0f, 127.0f));
  out.c = sq * score_scale(d);
  return out;
}

// The unmasked keys of one kv_block.
Partial attend_block(const KvShape& kv, const QuantizedQuery& q, const KvSlotRef* slots, int num_keys) {
  const int dim = kv.padded_dim(), groups = kv.num_key_groups();
  Partial out;
  std::vector<float> x(static_cast<size_t>(num_keys)), u(static_cast<size_t>(num_keys));
  for (int t = 0; t < num_keys; ++t) {
    float score = 0.0f;
    for (int g = 0; g < groups; ++g) {
      const KvParamsRef p = slots[t].params[g];
      int dot = 0;
      for (int i = g * kKeyGroup; i < (g + 1) * kKeyGroup; ++i) dot += q.codes[i] * (slots[t].k[i] - p.zero);
      const float scale = to_float(f16{p.scale});
      score = g == 0 ? scale * static_cast<float>(dot) : fmaf(scale, static_cast<float>(dot), score);
    }
    x[t] = q.c * score;
  }
  out.m = *std::max_element(x.begin(), x.end());
  float mu = 0.0f;
  for (int t = 0; t < num_keys; ++t) {
    const float p = (exp2_stated(x[t] - out.m) + 64.0f) - 64.0f;
    out.l += p;
    u[t] = p * to_float(f16{slots[t].params[groups].scale});
    mu = std::max(mu, u[t]);
  }
  out.o.assign(static_cast<size_t>(dim), 0.0f);
  out.is_empty = false;
  if (mu == 0.0f) return out;
  const float up = 255.0f / mu, down = mu / 255.0f;
  for (int i = 0; i < dim; ++i) {
    int sum = 0;
    for (int t = 0; t < num_keys; ++t)
      sum += static_cast<int>(rne(u[t] * up)) * (slots[t].v[i] - slots[t].params[groups].zero);
    out.o[i] = static_cast<float>(sum) * down;
  }
  return out;
}

Partial attend_row(const AttentionProblem& problem, const AttentionArgs& args, int64_t t, int kv_head, const float* q) {
  const KvShape& kv = problem.kv;
  const QuantizedQuery query = quantize_query(q, kv.head_dim, kv.padded_dim());
  const int position = args.batch.positions[t], seq = args.batch.token_seqs[t];
  const int begin = first_visible_key(problem, position);
  Partial row, split;
  for (int block = begin / kKvBlock; block <= position / kKvBlock; ++block) {
    const int first = std::max(block * kKvBlock, begin);
    const int num_keys = std::min((block + 1) * kKvBlock, position + 1) - first;
    KvSlotRef slots[kKvBlock];
    for (int i = 0; i < num_keys; ++i)
      slots[i] = slot_ref(kv, const_cast<void*>(args.cache), args.batch, seq, first + i, kv_head);
    split.merge(attend_block(kv, query, slots, num_keys));
    if ((block + 1) % kBlocksPerSplit == 0 || block == position / kKvBlock) {
      row.merge(split);
      split = Partial{};
    }
  }
  for (float& o : row.o) o = o / row.l;
  return row;
}

// kv16: a plain softmax in double over bf16 keys and values; outside the bit-for-bit promise.
Partial attend_row_kv16(const AttentionProblem& problem, const AttentionArgs& args, int64_t t, int kv_head,
                        const float* q) {
  const KvShape& kv = problem.kv;
  const int begin = first_visible_key(problem, args.batch.positions[t]);
  const int num_keys = args.batch.positions[t] + 1 - begin, d = kv.head_dim;
  std::vector<double> score(static_cast<size_t>(num_keys)), o(static_cast<size_t>(d), 0.0);
  auto slot = [&](int i) {
    return slot_ref(kv, const_cast<void*>(args.cache), args.batch, args.batch.token_seqs[t], begin + i, kv_head);
  };
  for (int i = 0; i < num_keys; ++i) {
    double dot = 0.0;
    for (int j = 0; j < d; ++j) dot += static_cast<double>(q[j]) * static_cast<double>(to_float(slot(i).k16[j]));
    score[i] = dot / std::sqrt(static_cast<double>(d));
  }
  const double top = *std::max_element(score.begin(), score.end());
  double sum = 0.0;
  for (int i = 0; i < num_keys; ++i) {
    const double p = std::exp(score[i] - top);
    sum += p;
    for (int j = 0; j < d; ++j) o[j] += p * static_cast<double>(to_float(slot(i).v16[j]));
  }
  Partial row;
  for (double value : o) row.o.push_back(static_cast<float>(value / sum));
  return row;
}

}  // namespace

void attention_ref(const AttentionProblem& p, const AttentionArgs& args) {
  const int d = p.kv.head_dim, group = p.num_heads / p.kv.num_kv_heads;
  for (int64_t t = 0; t < args.batch.num_tokens; ++t)
    for (int h = 0; h < p.num_heads; ++h) {
      const float* q = args.q + (t * p.num_heads + h) * d;
      const bool finite = std::all_of(q, q + d, [](float v) { return is_finite(v); });
      if (!finite && args.row_errors[t] == 0) args.row_errors[t] = args.error_tag;
      Partial row;
      if (finite)
        row = p.kv.bits == 16 ? attend_row_kv16(p, args, t, h / group, q) : attend_row(p, args, t, h / group, q);
      for (int i = 0; i < d; ++i) {
        const float o = finite ? row.o[i] : 0.0f;
        const int64_t at = (t * p.num_heads + h) * d + i;
        if (p.out_dtype == DType::bf16)
          static_cast<bf16*>(args.out)[at] = to_bf16(o);
        else
          static_cast<float*>(args.out)[at] = o;
      }
    }
}

}  // namespace comet
