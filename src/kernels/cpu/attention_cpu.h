// SPDX-License-Identifier: Apache-2.0
// The CPU's KV cache: its size, the op that fills it and the op that reads it. The byte order is in kv_layout.h.
#pragma once

#include "base/thread_pool.h"
#include "kernels/attention.h"
#include "kernels/cpu/isa.h"

namespace comet {

// Bytes of one kv_block of one layer, all KV heads: a multiple of 64. The same for every ISA.
size_t kv_block_bytes_cpu(const KvShape& kv);

// Both expect a problem that check_problem() accepted and a cache aligned to 64 bytes. The results are the same bits
// for any ISA, number of threads, batch and chunking.
void rope_append_cpu(Isa isa, const RopeAppendProblem& problem, const RopeAppendArgs& args, ThreadPool& pool);
void attention_cpu(Isa isa, const AttentionProblem& problem, const AttentionArgs& args, ThreadPool& pool);

}  // namespace comet
