// SPDX-License-Identifier: Apache-2.0
// Runs rope_append and attention over whole sequences in any chunking, on the reference or an ISA of the CPU backend.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/attention_cpu.h"

namespace comet {

// What is computed: the shapes, and every sequence's qkv rows.
struct AttentionCase {
  std::string name = {};
  int num_heads = 4, num_kv_heads = 2, head_dim = 64, bits = 4;
  bool k_rotate = false, has_norm = false;
  DType qkv_dtype = DType::f32, out_dtype = DType::bf16;
  std::vector<int> lengths = {130};  // tokens of each sequence
  // Rows before this position are appended but their attention is not run (the reference is slow).
  int attend_from = 0;
  // Value of a qkv element; kind 0 q, 1 k, 2 v.
  std::function<float(std::mt19937_64& random, int kind, int position, int channel)> value = {};
  int window = 0;
  bool has_plain_rope = false;  // cos 1, sin 0: values reach the codec as they are

  int row_width() const { return (num_heads + 2 * num_kv_heads) * head_dim; }
  KvShape kv() const { return {num_kv_heads, head_dim, bits}; }
};

// How it is computed. Nothing of it may change a bit.
struct Schedule {
  int chunk = 1 << 20;         // tokens of a sequence in one step
  bool one_at_a_time = false;  // sequences one after the other; else all in one batch
  int threads = 1;
  uint64_t block_seed = 1;  // order of the kv_blocks
  uint8_t poison = 0xff;    // what the cache holds before: NaN scales, 0x00: zeros
  bool forgets = false;     // kv_blocks that no later row's window reaches are overwritten with poison
};

// By sequence and position.
struct AttentionResult {
  std::vector<std::vector<std::vector<float>>> q;
  std::vector<std::vector<std::vector<uint8_t>>> out;  // bytes of the dtype; empty where not run
  std::vector<std::vector<uint32_t>> append_errors, attention_errors;
  bool operator==(const AttentionResult&) const = default;
};

inline float normal(std::mt19937_64& random) {
  // Box and Muller, so that the numbers do not depend on the standard library.
  auto uniform = [&] { return (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53; };
  return static_cast<float>(std::sqrt(-2.0 * std::log(uniform())) * std::cos(6.283185307179586 * uniform()));
}

class AttentionRun {
 public:
  explicit AttentionRun(const AttentionCase& c) : case_(c) {
    int longest = 0;
    std::mt19937_64 random(7);
    for (size_t s = 0; s < c.lengths.size(); ++s) {
      longest = std::max(longest, c.lengths[s]);
      std::vector<float> rows;
      for (int t = 0; t < c.lengths[s]; ++t)
        for (int h = 0; h < c.num_heads + 2 * c.num_kv_heads; ++h)
          for (int i = 0; i < c.head_dim; ++i) {
            const int kind = h < c.num_heads ? 0 : h < c.num_heads + c.num_kv_heads ? 1 : 2;
            const float x = c.value ? c.value(random, kind, t, i) : normal(random);
            rows.push_back(c.qkv_dtype == DType::bf16 ? to_float(to_bf16(x)) : x);
          }
      rows_.push_back(std::move(rows));
    }
    for (int t = 0; t < longest; ++t)
      for (int i = 0; i < c.head_dim / 2; ++i) {
        const double angle = t / std::pow(10000.0, 2.0 * i / c.head_dim);
        cos_.push_back(c.has_plain_rope ? 1.0f : static_cast<float>(std::cos(angle)));
        sin_.push_back(c.has_plain_rope ? 0.0f : static_cast<float>(std::sin(angle)));
      }
    for (int i = 0; i < 2 * c.head_dim; ++i) gains_.push_back(to_bf16(1.0f + 0.3f * normal(random)));
  }

  // null isa: the reference.
  AttentionResult run(const Isa* isa, const Schedule& schedule) const {
    const AttentionCase& c = case_;
    const size_t num_seqs = c.lengths.size();
    ThreadPool pool(schedule.threads);
    const std::unique_ptr<Backend> reference = ref_backend();
    const size_t block_bytes = isa == nullptr ? reference->kv_block_bytes(c.kv()) : kv_block_bytes_cpu(c.kv());
    int stride = 0, num_blocks = 0;
    for (int length : c.lengths) {
      stride = std::max(stride, (length + kKvBlock - 1) / kKvBlock);
      num_blocks += (length + kKvBlock - 1) / kKvBlock;
    }
    DeviceBuffer cache(*reference, block_bytes * static_cast<size_t>(num_blocks));
    std::memset(cache.data(), schedule.poison, cache.bytes());
    const std::vector<int32_t> tables = make_tables(num_blocks, stride, schedule.block_seed);

    AttentionResult result;
    for (int length : c.lengths) {
      result.q.emplace_back(length);
      result.out.emplace_back(length);
      result.append_errors.emplace_back(length);
      result.attention_errors.emplace_back(length);
    }
    std::vector<int> done(num_seqs, 0);
    for (bool is_busy = true; is_busy;) {
      is_busy = false;
      std::vector<Chunk> chunks;
      for (size_t s = 0; s < num_seqs; ++s) {
        const int count = std::min(schedule.chunk, c.lengths[s] - done[s]);
        if (count == 0 || (schedule.one_at_a_time && !chunks.empty())) continue;
        chunks.push_back({static_cast<int>(s), done[s], count});
        done[s] += count;
        is_busy = true;
      }
      if (schedule.forgets)
        for (const Chunk& chunk : chunks)
          for (int block = 0; block < first_visible_key(problem(), chunk.first) / kKvBlock; ++block)
            std::memset(cache.as<uint8_t>() +
                            block_bytes * static_cast<size_t>(tables[static_cast<size_t>(chunk.seq * stride + block)]),
                        schedule.poison, block_bytes);
      if (is_busy) step(isa, chunks, tables, stride, cache.data(), *reference, pool, &result);
    }
    return result;
  }

  // Rows of q to spoil between the two ops: (sequence, position, element).
  struct Spoiled {
    int seq, position, element;
    float value;
  };
  std::vector<Spoiled> spoiled_q;

 private:
  struct Chunk {
    int seq, first, count;
  };

  AttentionProblem problem() const { return {case_.num_heads, case_.kv(), case_.out_dtype, case_.window}; }

  std::vector<int32_t> make_tables(int num_blocks, int stride, uint64_t seed) const {
    std::vector<int32_t> order, tables(case_.lengths.size() * static_cast<size_t>(stride), -1);
    for (int i = 0; i < num_blocks; ++i) order.push_back(i);
    std::mt19937_64 random(seed);
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);
    size_t next = 0;
    for (size_t s = 0; s < case_.lengths.size(); ++s)
      for (int b = 0; b * kKvBlock < case_.lengths[s]; ++b)
        tables[s * static_cast<size_t>(stride) + static_cast<size_t>(b)] = order[next++];
    return tables;
  }

  void step(const Isa* isa, const std::vector<Chunk>& chunks, const std::vector<int32_t>& all_tables, int stride,
            void* cache, Backend& reference, ThreadPool& pool, AttentionResult* result) const {
    const AttentionCase& c = case_;
    Rows all(chunks, all_tables, stride);
    const size_t tokens = all.positions.size(), d = static_cast<size_t>(c.head_dim),
                 width = static_cast<size_t>(c.row_width());
    std::vector<float> qkv, q(tokens * static_cast<size_t>(c.num_heads) * d, -1.0f);
    for (size_t t = 0; t < tokens; ++t) {
      const float* row = rows_[static_cast<size_t>(all.seqs[t])].data() + static_cast<size_t>(all.positions[t]) * width;
      qkv.insert(qkv.end(), row, row + width);
    }
    std::vector<bf16> qkv_bf16;
    if (c.qkv_dtype == DType::bf16)
      for (float x : qkv) qkv_bf16.push_back(to_bf16(x));
    std::vector<uint32_t> errors(tokens, 0);
    RopeAppendArgs append;
    append.qkv = c.qkv_dtype == DType::bf16 ? static_cast<const void*>(qkv_bf16.data()) : qkv.data();
    append.qkv_dtype = c.qkv_dtype;
    append.cos = cos_.data();
    append.sin = sin_.data();
    append.q_norm = c.has_norm ? gains_.data() : nullptr;
    append.k_norm = c.has_norm ? gains_.data() + d : nullptr;
    append.norm_dtype = DType::bf16;
    append.norm_eps = 1e-6f;
    append.batch = all.view();
    append.cache = cache;
    append.q = q.data();
    append.row_errors = errors.data();
    append.error_tag = 77;
    const RopeAppendProblem append_problem{c.num_heads, c.kv(), c.k_rotate};
    if (isa == nullptr)
      reference.rope_append(append_problem, append);
    else
      rope_append_cpu(*isa, append_problem, append, pool);
    const size_t q_width = static_cast<size_t>(c.num_heads) * d;
    for (size_t t = 0; t < tokens; ++t) {
      const size_t s = static_cast<size_t>(all.seqs[t]), p = static_cast<size_t>(all.positions[t]);
      result->q[s][p].assign(q.begin() + static_cast<ptrdiff_t>(t * q_width),
                             q.begin() + static_cast<ptrdiff_t>((t + 1) * q_width));
      result->append_errors[s][p] = errors[t];
    }
    attend(isa, chunks, all_tables, stride, cache, reference, pool, result);
  }

  void attend(const Isa* isa, const std::vector<Chunk>& chunks, const std::vector<int32_t>& all_tables, int stride,
              const void* cache, Backend& reference, ThreadPool& pool, AttentionResult* result) const {
    const AttentionCase& c = case_;
    std::vector<Chunk> wanted;
    for (Chunk chunk : chunks) {
      const int skip = std::max(0, c.attend_from - chunk.first);
      if (skip < chunk.count) wanted.push_back({chunk.seq, chunk.first + skip, chunk.count - skip});
    }
    if (wanted.empty()) return;
    Rows all(wanted, all_tables, stride);
    std::vector<float> q;
    for (size_t t = 0; t < all.positions.size(); ++t) {
      std::vector<float> row = result->q[static_cast<size_t>(all.seqs[t])][static_cast<size_t>(all.positions[t])];
      for (const Spoiled& s : spoiled_q)
        if (s.seq == all.seqs[t] && s.position == all.positions[t]) row[static_cast<size_t>(s.element)] = s.value;
      q.insert(q.end(), row.begin(), row.end());
    }
    const size_t bytes = static_cast<size_t>(c.num_heads) * static_cast<size_t>(c.head_dim) * dtype_bytes(c.out_dtype);
    std::vector<uint8_t> out(all.positions.size() * bytes + 64, 0xa5);
    std::vector<uint32_t> errors(all.positions.size(), 0);
    AttentionArgs args;
    args.q = q.data();
    args.batch = all.view();
    args.cache = cache;
    args.out = out.data();
    args.row_errors = errors.data();
    args.error_tag = 99;
    if (isa == nullptr)
      reference.attention(problem(), args);
    else
      attention_cpu(*isa, problem(), args, pool);
    for (size_t t = 0; t < all.positions.size(); ++t) {
      const size_t s = static_cast<size_t>(all.seqs[t]), p = static_cast<size_t>(all.positions[t]);
      result->out[s][p].assign(out.begin() + static_cast<ptrdiff_t>(t * bytes),
                               out.begin() + static_cast<ptrdiff_t>((t + 1) * bytes));
      result->attention_errors[s][p] = errors[t];
    }
    for (size_t i = out.size() - 64; i < out.size(); ++i)
      if (out[i] != 0xa5) result->out[0][0].assign(1, 0);  // written past the end: equal to nothing
  }

  // The arrays behind a BatchView.
  struct Rows {
    std::vector<int32_t> seqs, batch_seqs, positions, first, tables;
    int stride;
    Rows(const std::vector<Chunk>& chunks, const std::vector<int32_t>& all_tables, int table_stride)
        : first{0}, stride(table_stride) {
      for (size_t i = 0; i < chunks.size(); ++i) {
        for (int t = 0; t < chunks[i].count; ++t) {
          seqs.push_back(chunks[i].seq);
          batch_seqs.push_back(static_cast<int32_t>(i));
          positions.push_back(chunks[i].first + t);
        }
        first.push_back(static_cast<int32_t>(positions.size()));
        const auto row = all_tables.begin() + ptrdiff_t{chunks[i].seq} * stride;
        tables.insert(tables.end(), row, row + stride);
      }
    }
    BatchView view() const {
      return {static_cast<int>(positions.size()),
              static_cast<int>(first.size()) - 1,
              batch_seqs.data(),
              positions.data(),
              first.data(),
              tables.data(),
              stride};
    }
  };

  AttentionCase case_;
  std::vector<std::vector<float>> rows_;  // by sequence: [position, row_width]
  std::vector<float> cos_, sin_;
  std::vector<bf16> gains_;  // q's, then k's
};

}  // namespace comet
