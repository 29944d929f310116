// SPDX-License-Identifier: Apache-2.0
// Cuts attention into tasks of query rows that share a KV head and runs them on the pool.
#include "kernels/cpu/attention_cpu.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "kernels/cpu/attention_tile.h"

namespace comet {
namespace {

// Rows [first_row, first_row + num_rows) of a sequence and KV head (row = token * heads per KV head + head) over the
// kv_blocks [first_block, end_block); first_split is that of the rows' first kv_block.
struct Task {
  int seq, kv_head, first_row, num_rows, first_block, end_block, first_split;
  int64_t partial;  // floats into the partials of all tasks, or -1
  bool is_first;    // of the tasks that share the rows
};

struct Plan {
  std::vector<Task> tasks;
  int64_t partial_floats = 0;
};

const AttentionKernel& kernel_of(Isa isa, int bits) {
  if (isa == Isa::avx512vnni)
    return bits == 4 ? avx512vnni::attention_kv4 : bits == 8 ? avx512vnni::attention_kv8 : avx512vnni::attention_kv16;
  return bits == 4 ? avx2::attention_kv4 : bits == 8 ? avx2::attention_kv8 : avx2::attention_kv16;
}

int position_of(const AttentionArgs& args, int seq, int token) {
  return args.batch.positions[args.batch.seq_first_token[seq] + token];
}

// Rows in tiles; a tile whose context is so long that it would keep one thread busy after the others is cut at splits.
// Where it is cut cannot change a bit: every split is folded by itself and splits are folded in order.
Plan make_plan(const AttentionProblem& p, const AttentionArgs& args, int num_threads) {
  const int heads = p.num_heads / p.kv.num_kv_heads;
  Plan plan;
  int64_t total = 0;
  auto cost = [](const Task& t) { return int64_t{t.end_block - t.first_block} * (t.num_rows + 2); };
  for (int seq = 0; seq < args.batch.num_seqs; ++seq) {
    const int rows = (args.batch.seq_first_token[seq + 1] - args.batch.seq_first_token[seq]) * heads;
    for (int kv_head = 0; kv_head < p.kv.num_kv_heads; ++kv_head)
      for (int first = 0; first < rows; first += kTileRows) {
        const int num_rows = std::min(kTileRows, rows - first);
        const int first_block = first_visible_key(p, position_of(args, seq, first / heads)) / kKvBlock;
        const int end_block = position_of(args, seq, (first + num_rows - 1) / heads) / kKvBlock + 1;
        plan.tasks.push_back(
            {seq, kv_head, first, num_rows, first_block, end_block, first_block / kBlocksPerSplit, -1, true});
        total += cost(plan.tasks.back());
      }
  }
  if (num_threads == 1) return plan;
  const int64_t limit = total / (4 * num_threads) + 1;
  std::vector<Task> cut;
  for (const Task& whole : plan.tasks) {
    const int splits = (whole.end_block + kBlocksPerSplit - 1) / kBlocksPerSplit - whole.first_split;
    const int pieces = static_cast<int>(std::min<int64_t>(splits, (cost(whole) + limit - 1) / limit));
    if (pieces < 2) {
      cut.push_back(whole);
      continue;
    }
    for (int i = 0; i < pieces; ++i) {
      Task t = whole;
      auto split_begin = [&](int piece) { return (whole.first_split + splits * piece / pieces) * kBlocksPerSplit; };
      t.first_block = std::max(whole.first_block, split_begin(i));
      t.end_block = std::min(whole.end_block, split_begin(i + 1));
      t.partial = plan.partial_floats;
      t.is_first = i == 0;
      cut.push_back(t);
    }
    plan.partial_floats += int64_t{splits} * whole.num_rows * partial_floats(p.kv.padded_dim());
  }
  plan.tasks = std::move(cut);
  return plan;
}

AttentionTile make_tile(const AttentionProblem& p, const AttentionArgs& args, const Task& task, float* partials) {
  const int heads = p.num_heads / p.kv.num_kv_heads, d = p.kv.head_dim;
  AttentionTile tile;
  tile.layout = kv_layout(p.kv.bits, p.kv.padded_dim());
  tile.head_dim = d;
  tile.score_scale = score_scale(d);
  tile.cache = static_cast<const uint8_t*>(args.cache) + static_cast<size_t>(task.kv_head) * tile.layout.bytes;
  tile.block_stride = static_cast<size_t>(p.kv.num_kv_heads) * tile.layout.bytes;
  tile.block_table = args.batch.block_tables + int64_t{task.seq} * args.batch.block_table_stride;
  tile.first_block = task.first_block;
  tile.end_block = task.end_block;
  tile.first_split = task.first_split;
  tile.num_rows = task.num_rows;
  tile.out_is_bf16 = p.out_dtype == DType::bf16;
  tile.partials = task.partial < 0 ? nullptr : partials + task.partial;
  for (int r = 0; r < task.num_rows; ++r) {
    const int64_t token = args.batch.seq_first_token[task.seq] + (task.first_row + r) / heads;
    const int64_t at = (token * p.num_heads + int64_t{task.kv_head} * heads + (task.first_row + r) % heads) * d;
    tile.q[r] = args.q + at;
    tile.first_visible[r] = first_visible_key(p, args.batch.positions[token]);
    tile.num_keys[r] = args.batch.positions[token] + 1;
    tile.out[r] = static_cast<char*>(args.out) + static_cast<size_t>(at) * dtype_bytes(p.out_dtype);
  }
  return tile;
}

// Several heads of a token may report at once; all write the same tag.
void report(const AttentionProblem& p, const AttentionArgs& args, const Task& task, uint32_t bad_rows) {
  const int heads = p.num_heads / p.kv.num_kv_heads;
  for (int r = 0; r < task.num_rows; ++r)
    if ((bad_rows >> r & 1u) != 0) {
      uint32_t none = 0;
      const int token = args.batch.seq_first_token[task.seq] + (task.first_row + r) / heads;
      std::atomic_ref(args.row_errors[token]).compare_exchange_strong(none, args.error_tag, std::memory_order_relaxed);
    }
}

}  // namespace

size_t kv_block_bytes_cpu(const KvShape& kv) {
  return static_cast<size_t>(kv.num_kv_heads) * kv_layout(kv.bits, kv.padded_dim()).bytes;
}

void attention_cpu(Isa isa, const AttentionProblem& p, const AttentionArgs& args, ThreadPool& pool) {
  const AttentionKernel& kernel = kernel_of(isa, p.kv.bits);
  const Plan plan = make_plan(p, args, pool.num_threads());
  // Kept between calls: at long contexts these are megabytes, and fresh pages would cost more than the folding.
  thread_local std::vector<float> buffer;
  if (buffer.size() < static_cast<size_t>(plan.partial_floats)) buffer.resize(static_cast<size_t>(plan.partial_floats));
  float* partials = buffer.data();
  const int64_t num_tasks = static_cast<int64_t>(plan.tasks.size());
  pool.parallel_for(num_tasks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const Task& task = plan.tasks[static_cast<size_t>(i)];
      const uint32_t bad_rows = kernel.attend(make_tile(p, args, task, partials));
      if (bad_rows != 0) report(p, args, task, bad_rows);
    }
  });
  if (plan.partial_floats == 0) return;
  pool.parallel_for(num_tasks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const Task& task = plan.tasks[static_cast<size_t>(i)];
      if (task.is_first && task.partial >= 0) kernel.fold(make_tile(p, args, task, partials));
    }
  });
}

}  // namespace comet
