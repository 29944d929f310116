// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <cstring>

#include "kernels/backend.h"
#include "kernels/check_problem.h"
#include "kernels/ref/ops_ref.h"

namespace comet {
namespace {

class RefBackend final : public Backend {
 public:
  std::string name() const override { return "ref"; }
  std::vector<std::string> kernels() const override {
    return {"quantize_act_ax_ref", "gemm_w4ax_ref",   "gemm_w8a8_ref",
            "gemm_w16_ref",        "rope_append_ref", "attention_ref"};
  }

  void* allocate(size_t bytes) override {
    bytes = (bytes + 63) / 64 * 64 + 64;
    void* p = std::aligned_alloc(64, bytes);
    if (p == nullptr) throw_invalid("out of memory: {} bytes could not be allocated", bytes);
    memset(p, 0, bytes);
    return p;
  }
  void free(void* p) override { std::free(p); }
  void copy_in(void* device, const void* host, size_t bytes) override { memcpy(device, host, bytes); }
  void copy_out(void* host, const void* device, size_t bytes) override { memcpy(host, device, bytes); }
  void synchronize() override {}

  PackedWeights pack_w4ax(const W4axWeights& w) override {
    const size_t codes = static_cast<size_t>(w.n) * w.k / 2, groups = static_cast<size_t>(w.n) * (w.k / kGroup);
    PackedWeights packed{allocate(codes + groups), codes + groups, w.n, w.k};
    memcpy(packed.data, w.codes, codes);
    uint8_t* params = static_cast<uint8_t*>(packed.data) + codes;
    for (size_t i = 0; i < groups; ++i) params[i] = pack_group_params(w.group_scales[i], w.group_zeros[i]);
    return packed;
  }
  PackedWeights pack_w8(const W8Weights& w) override {
    const size_t bytes = static_cast<size_t>(w.n) * w.k;
    PackedWeights packed{allocate(bytes), bytes, w.n, w.k};
    memcpy(packed.data, w.codes, bytes);
    return packed;
  }

  // values [m, k], group_sums [m, k/128], region1_factors, scales, sums [m], multipliers [m, k/128]
  size_t acts_bytes(int m, int k) const override {
    return static_cast<size_t>(m) * (static_cast<size_t>(k) + 3 * (k / kGroup) + 12) + 64;
  }
  QuantizedActs bind_acts(void* memory, int m, int k) const override {
    QuantizedActs a;
    char* at = static_cast<char*>(memory);
    auto take = [&](auto*& field, size_t count) {
      field = reinterpret_cast<std::remove_reference_t<decltype(field)>>(at);
      at += count * sizeof(*field);
    };
    const size_t rows = static_cast<size_t>(m), groups = rows * (k / kGroup);
    take(a.region1_factors, rows);
    take(a.scales, rows);
    take(a.sums, rows);
    take(a.group_sums, groups);
    take(a.multipliers, groups);
    take(a.values, rows * k);
    return a;
  }

  size_t kv_block_bytes(const KvShape& kv) const override {
    return kv_slot_bytes_ref(kv) * kKvBlock * static_cast<size_t>(kv.num_kv_heads);
  }

  void embed(const EmbedArgs& args) override { embed_ref(args); }
  void rms_norm(const RmsNormArgs& args) override { rms_norm_ref(args); }
  void silu_mul(const SiluMulArgs& args) override { silu_mul_ref(args); }
  void check_finite(const CheckFiniteArgs& args) override { check_finite_ref(args); }
  void quantize_act(const QuantizeActProblem& p, const QuantizeActArgs& args) override {
    check_problem(p, args);
    quantize_act_ref(p, args);
  }
  void gemm_w4ax(const GemmProblem& p, const GemmArgs& args) override {
    check_problem(p, args);
    gemm_w4ax_ref(p, args);
  }
  void gemm_w8a8(const GemmProblem& p, const GemmArgs& args) override {
    check_problem(p, args);
    gemm_w8a8_ref(p, args);
  }
  void gemm_w16(const GemmProblem& p, const GemmW16Args& args) override {
    check_problem(p, args);
    gemm_w16_ref(p, args);
  }
  void rope_append(const RopeAppendProblem& p, const RopeAppendArgs& args) override {
    check_problem(p, args);
    rope_append_ref(p, args);
  }
  void attention(const AttentionProblem& p, const AttentionArgs& args) override {
    check_problem(p, args);
    attention_ref(p, args);
  }
};

}  // namespace

std::unique_ptr<Backend> ref_backend() { return std::make_unique<RefBackend>(); }

}  // namespace comet
