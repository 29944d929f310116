// SPDX-License-Identifier: Apache-2.0
#include "kernels/check_problem.h"

#include "base/check.h"

namespace comet {
namespace {

void check_kv(const KvShape& kv) {
  COMET_CHECK(kv.bits == 4 || kv.bits == 8 || kv.bits == 16, "kv bits = {}", kv.bits);
  COMET_CHECK(kv.head_dim >= 2 && kv.head_dim <= 256 && kv.head_dim % 2 == 0, "head_dim = {}", kv.head_dim);
  COMET_CHECK(kv.num_kv_heads >= 1, "num_kv_heads = {}", kv.num_kv_heads);
}

}  // namespace

std::string to_string(const QuantizeActProblem& p) {
  return fmt::format("quantize_act m={} k_in={} k={} n8={} bits2={} rotate={} source={}", p.m, p.format.k_in,
                     p.format.k, p.format.num_int8_groups, p.format.bits2, p.format.rotate, static_cast<int>(p.source));
}

std::string to_string(const GemmProblem& p) {
  return fmt::format("gemm m={} n={} k={} n8={} output={}", p.m, p.n, p.k, p.num_int8_groups,
                     static_cast<int>(p.output));
}

std::string to_string(const RopeAppendProblem& p) {
  return fmt::format("rope_append heads={}/{} head_dim={} kv{} k_rotate={}", p.num_heads, p.kv.num_kv_heads,
                     p.kv.head_dim, p.kv.bits, p.k_rotate);
}

std::string to_string(const AttentionProblem& p) {
  return fmt::format("attention heads={}/{} head_dim={} kv{} window={}", p.num_heads, p.kv.num_kv_heads, p.kv.head_dim,
                     p.kv.bits, p.window);
}

void check_problem(const QuantizeActProblem& p, const QuantizeActArgs& args) {
  const ActFormat& f = p.format;
  COMET_CHECK(p.m >= 0 && f.k_in >= 1 && f.k % kGroup == 0 && f.k >= 1 && f.k <= kMaxK, "{}", to_string(p));
  COMET_CHECK(f.num_int8_groups >= 0 && f.num_int8_groups <= f.num_groups(), "{}", to_string(p));
  COMET_CHECK(f.bits2 == 4 || f.bits2 == 8, "{}", to_string(p));
  COMET_CHECK(args.perm != nullptr || f.k >= f.k_in, "{}: identity permutation", to_string(p));
  COMET_CHECK(args.x != nullptr && args.row_errors != nullptr && args.error_tag != 0, "{}", to_string(p));
  COMET_CHECK(p.source != ActSource::rms_norm || args.gain != nullptr, "{}", to_string(p));
}

void check_problem(const GemmProblem& p, const GemmArgs& args) {
  COMET_CHECK(p.m >= 0 && p.n >= 1 && p.k >= kGroup && p.k % kGroup == 0 && p.k <= kMaxK, "{}", to_string(p));
  COMET_CHECK(p.num_int8_groups >= 0 && p.num_int8_groups <= p.k / kGroup, "{}", to_string(p));
  COMET_CHECK(args.b.n == p.n && args.b.k == p.k, "{}: weights are [{}, {}]", to_string(p), args.b.n, args.b.k);
  COMET_CHECK(args.channel_scales != nullptr && args.d != nullptr, "{}", to_string(p));
}

void check_problem(const GemmProblem& p, const GemmW16Args& args) {
  COMET_CHECK(p.m >= 0 && p.n >= 1 && p.k >= 1, "{}", to_string(p));
  COMET_CHECK(p.output == GemmOutput::f32 || p.output == GemmOutput::add_f32, "{}: w16 writes fp32", to_string(p));
  COMET_CHECK(args.a != nullptr && args.b != nullptr && args.d != nullptr, "{}", to_string(p));
}

void check_problem(const RopeAppendProblem& p, const RopeAppendArgs& args) {
  check_kv(p.kv);
  COMET_CHECK(!p.k_rotate || is_power_of_two(p.kv.head_dim), "{}", to_string(p));
  COMET_CHECK(args.qkv_dtype == DType::bf16 || args.qkv_dtype == DType::f32, "{}", to_string(p));
  COMET_CHECK((args.q_norm == nullptr) == (args.k_norm == nullptr), "{}", to_string(p));
}

void check_problem(const AttentionProblem& p, const AttentionArgs& args) {
  check_kv(p.kv);
  COMET_CHECK(p.num_heads >= 1 && p.num_heads % p.kv.num_kv_heads == 0, "{}", to_string(p));
  COMET_CHECK(p.window >= 0, "{}", to_string(p));
  COMET_CHECK(p.out_dtype == DType::bf16 || p.out_dtype == DType::f32, "{}", to_string(p));
  COMET_CHECK(args.q != nullptr && args.cache != nullptr && args.out != nullptr, "{}", to_string(p));
}

}  // namespace comet
