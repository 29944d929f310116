// SPDX-License-Identifier: Apache-2.0
// Hands rope_append's tokens to the threads; a token is one thread's.
#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/attention_cpu.h"
#include "kernels/cpu/rope_append_tokens.h"

namespace comet {
namespace {

void widen_gains(const void* data, DType dtype, int n, float* out) {
  COMET_CHECK(dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16, "norm gains are {}",
              to_string(dtype));
  for (int i = 0; i < n; ++i)
    out[i] = dtype == DType::f32    ? static_cast<const float*>(data)[i]
             : dtype == DType::bf16 ? to_float(static_cast<const bf16*>(data)[i])
                                    : to_float(static_cast<const f16*>(data)[i]);
}

}  // namespace

void rope_append_cpu(Isa isa, const RopeAppendProblem& p, const RopeAppendArgs& args, ThreadPool& pool) {
  const int d = p.kv.head_dim;
  float q_gain[kMaxHeadDim] = {}, k_gain[kMaxHeadDim] = {};
  RopeAppendTokens tokens{};
  tokens.layout = kv_layout(p.kv.bits, p.kv.padded_dim());
  tokens.num_heads = p.num_heads;
  tokens.num_kv_heads = p.kv.num_kv_heads;
  tokens.head_dim = d;
  tokens.k_rotate = p.k_rotate;
  tokens.qkv_is_bf16 = args.qkv_dtype == DType::bf16;
  tokens.hadamard_scale = hadamard_scale(d);
  tokens.qkv = args.qkv;
  tokens.cos = args.cos;
  tokens.sin = args.sin;
  if (args.q_norm != nullptr) {
    widen_gains(args.q_norm, args.norm_dtype, d, q_gain);
    widen_gains(args.k_norm, args.norm_dtype, d, k_gain);
    tokens.q_gain = q_gain;
    tokens.k_gain = k_gain;
  }
  tokens.norm_eps = args.norm_eps;
  tokens.batch = &args.batch;
  tokens.cache = static_cast<uint8_t*>(args.cache);
  tokens.q = args.q;
  tokens.row_errors = args.row_errors;
  tokens.error_tag = args.error_tag;
  // A few microseconds a token: fewer than four are not worth waking a thread for. Multiples of four keep the words of
  // the V cells to one thread.
  const int64_t share = args.batch.num_tokens / (4 * pool.num_threads());
  pool.parallel_for(args.batch.num_tokens, std::max<int64_t>(4, share / 4 * 4), [&](int64_t begin, int64_t end, int) {
    RopeAppendTokens part = tokens;
    part.first = begin;
    part.end = end;
    if (isa == Isa::avx512vnni)
      avx512vnni::rope_append(part);
    else
      avx2::rope_append(part);
  });
}

}  // namespace comet
