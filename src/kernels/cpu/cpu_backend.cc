// SPDX-License-Identifier: Apache-2.0
// The CPU backend: one kernel for each op, chosen once from the tables by what this machine can run.
#include <algorithm>
#include <span>

#include "kernels/backend.h"
#include "kernels/check_problem.h"
#include "kernels/cpu/attention_cpu.h"
#include "kernels/cpu/gemm_w16_run.h"
#include "kernels/cpu/int_gemm.h"
#include "kernels/cpu/memory.h"
#include "kernels/cpu/row_kernels.h"

namespace comet {
namespace {

struct QuantizeActKernel {
  const char* name;
  Isa isa;
  void (*rows)(const QuantizeActProblem&, const QuantizeActArgs&, int64_t begin, int64_t end, float* scratch);
};

struct ElementwiseKernels {
  const char* name;
  Isa isa;
  void (*embed)(const EmbedArgs&, int64_t begin, int64_t end);
  void (*rms_norm)(const RmsNormArgs&, int64_t begin, int64_t end);
  void (*silu_mul)(const SiluMulArgs&, int64_t begin, int64_t end);
  void (*check_finite)(const CheckFiniteArgs&, int64_t begin, int64_t end);
};

struct GemmW16Kernel {
  const char* name;
  Isa isa;
  GemmW16Fn run;
};

// Fastest first.
constexpr QuantizeActKernel kQuantizeActs[] = {
    {"quantize_act_ax_avx512vnni", Isa::avx512vnni, avx512vnni::quantize_act_rows},
    {"quantize_act_ax_avx2", Isa::avx2, avx2::quantize_act_rows},
};
constexpr ElementwiseKernels kElementwise[] = {
    {"elementwise_avx512vnni", Isa::avx512vnni, avx512vnni::embed_rows, avx512vnni::rms_norm_rows,
     avx512vnni::silu_mul_rows, avx512vnni::check_finite_rows},
    {"elementwise_avx2", Isa::avx2, avx2::embed_rows, avx2::rms_norm_rows, avx2::silu_mul_rows,
     avx2::check_finite_rows},
};
constexpr GemmW16Kernel kW16Gemms[] = {
    {"gemm_w16_avx512vnni", Isa::avx512vnni, avx512vnni::gemm_w16},
    {"gemm_w16_avx2", Isa::avx2, avx2::gemm_w16},
};

// The first of a table that `have` can run; `have` holds the slowest ISA at least.
template <typename Kernel>
const Kernel& select(std::span<const Kernel> table, IsaSet have) {
  for (const Kernel& kernel : table)
    if (have.has(kernel.isa)) return kernel;
  throw_unsupported("no kernel like {} for this machine", table.front().name);
}

std::string list(IsaSet isas) {
  std::string names;
  for (Isa isa : kAllIsas)
    if (isas.has(isa)) names += (names.empty() ? "" : ", ") + std::string(to_string(isa));
  return names.empty() ? "none of them" : names;
}

std::string all_names() {
  IsaSet all;
  for (Isa isa : kAllIsas) all.add(isa);
  return list(all);
}

// The ISA to run with: the named one, or the best there is.
Isa choose_isa(const std::string& name, IsaSet have) {
  if (have.is_empty())
    throw_unsupported("the CPU backend needs one of {}; this machine has {}", all_names(), list(have));
  Isa best = Isa::avx2;
  for (Isa isa : kAllIsas) {
    if (have.has(isa)) best = isa;
    if (name != to_string(isa)) continue;
    if (!have.has(isa)) throw_unsupported("ISA {} was asked for, but this machine has only {}", name, list(have));
    return isa;
  }
  if (!name.empty())
    throw_unsupported("unknown ISA \"{}\"; Comet has CPU kernels for {}, and this machine has {}", name, all_names(),
                      list(have));
  return best;
}

IsaSet up_to(Isa isa) {
  IsaSet set;
  for (Isa i : kAllIsas)
    if (i <= isa) set.add(i);
  return set;
}

// Below this many floats per thread a row op stays on the calling thread: waking the others takes a few microseconds.
constexpr int64_t kRowFloatsPerClaim = 16384;

class CpuBackend final : public Backend {
 public:
  CpuBackend(Isa isa, std::shared_ptr<ThreadPool> pool)
      : isa_(isa),
        pool_(std::move(pool)),
        w4ax_(select(w4ax_gemms(), up_to(isa))),
        w8a8_(select(w8a8_gemms(), up_to(isa))),
        w16_(select(std::span<const GemmW16Kernel>(kW16Gemms), up_to(isa))),
        quantize_act_(select(std::span<const QuantizeActKernel>(kQuantizeActs), up_to(isa))),
        elementwise_(select(std::span<const ElementwiseKernels>(kElementwise), up_to(isa))),
        scratch_(memory_) {}

  std::string name() const override { return to_string(isa_); }
  std::vector<std::string> kernels() const override {
    const std::string isa = to_string(isa_);
    return {w4ax_.name,        w8a8_.name,           w16_.name,         quantize_act_.name,
            elementwise_.name, "rope_append_" + isa, "attention_" + isa};
  }

  void* allocate(size_t bytes) override { return memory_.allocate(bytes); }
  void free(void* p) override { memory_.free(p); }
  void copy_in(void* device, const void* host, size_t bytes) override { memcpy(device, host, bytes); }
  void copy_out(void* host, const void* device, size_t bytes) override { memcpy(host, device, bytes); }
  void synchronize() override {}

  PackedWeights pack_w4ax(const W4axWeights& w) override {
    return pack(w.n, w.k, w4ax_panel_bytes(w.k), [&](int panel, uint8_t* out) { pack_w4ax_panel(w, panel, out); });
  }
  PackedWeights pack_w8(const W8Weights& w) override {
    return pack(w.n, w.k, w8_panel_bytes(w.k), [&](int panel, uint8_t* out) { pack_w8_panel(w, panel, out); });
  }

  // values [m, k], then what the GEMM reads once a token or group; each array starts at 64 bytes.
  size_t acts_bytes(int m, int k) const override { return bind(nullptr, m, k).second; }
  QuantizedActs bind_acts(void* memory, int m, int k) const override { return bind(memory, m, k).first; }

  size_t kv_block_bytes(const KvShape& kv) const override { return kv_block_bytes_cpu(kv); }

  void embed(const EmbedArgs& a) override {
    for_rows(a.m, a.hidden, [&](int64_t begin, int64_t end, int) { elementwise_.embed(a, begin, end); });
  }
  void rms_norm(const RmsNormArgs& a) override {
    for_rows(a.m, a.hidden, [&](int64_t begin, int64_t end, int) { elementwise_.rms_norm(a, begin, end); });
  }
  void silu_mul(const SiluMulArgs& a) override {
    for_rows(a.m, int64_t{2} * a.width, [&](int64_t begin, int64_t end, int) { elementwise_.silu_mul(a, begin, end); });
  }
  void check_finite(const CheckFiniteArgs& a) override {
    for_rows(a.m, a.n, [&](int64_t begin, int64_t end, int) { elementwise_.check_finite(a, begin, end); });
  }

  void quantize_act(const QuantizeActProblem& p, const QuantizeActArgs& args) override {
    check_problem(p, args);
    const size_t floats = (quantize_act_scratch_floats(p.format) + 15) / 16 * 16;
    float* scratch = static_cast<float*>(scratch_.reserve(floats * sizeof(float) * pool_->num_threads()));
    for_rows(p.m, p.format.k, [&](int64_t begin, int64_t end, int thread) {
      quantize_act_.rows(p, args, begin, end, scratch + static_cast<size_t>(thread) * floats);
    });
  }

  void gemm_w4ax(const GemmProblem& p, const GemmArgs& args) override {
    check_problem(p, args);
    run_int_gemm(w4ax_, p, args, *pool_, scratch_);
  }
  void gemm_w8a8(const GemmProblem& p, const GemmArgs& args) override {
    check_problem(p, args);
    run_int_gemm(w8a8_, p, args, *pool_, scratch_);
  }
  void gemm_w16(const GemmProblem& p, const GemmW16Args& args) override {
    check_problem(p, args);
    run_gemm_w16(w16_.run, p, args, *pool_);
  }

  void rope_append(const RopeAppendProblem& p, const RopeAppendArgs& args) override {
    check_problem(p, args);
    rope_append_cpu(isa_, p, args, *pool_);
  }
  void attention(const AttentionProblem& p, const AttentionArgs& args) override {
    check_problem(p, args);
    attention_cpu(isa_, p, args, *pool_);
  }

 private:
  template <typename PackPanel>
  PackedWeights pack(int n, int k, size_t panel_bytes, PackPanel pack_panel) {
    COMET_CHECK(n >= 1 && k >= kGroup && k % kGroup == 0 && k <= kMaxK, "weights [{}, {}]", n, k);
    const size_t bytes = static_cast<size_t>(num_panels(n)) * panel_bytes;
    PackedWeights packed{memory_.allocate(bytes), bytes, n, k};
    pool_->parallel_for(num_panels(n), 4, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i)
        pack_panel(static_cast<int>(i), static_cast<uint8_t*>(packed.data) + static_cast<size_t>(i) * panel_bytes);
    });
    return packed;
  }

  static std::pair<QuantizedActs, size_t> bind(void* memory, int m, int k) {
    QuantizedActs a;
    size_t at = 0;
    auto take = [&](auto*& field, size_t count) {
      field = reinterpret_cast<std::remove_reference_t<decltype(field)>>(static_cast<char*>(memory) + at);
      at += (count * sizeof(*field) + 63) / 64 * 64;
    };
    const size_t rows = static_cast<size_t>(m), groups = rows * static_cast<size_t>(k / kGroup);
    take(a.values, rows * static_cast<size_t>(k));
    take(a.multipliers, groups);
    take(a.group_sums, groups);
    take(a.region1_factors, rows);
    take(a.scales, rows);
    take(a.sums, rows);
    return {a, at};
  }

  template <typename Body>
  void for_rows(int64_t m, int64_t width, const Body& body) {
    const int64_t claim = std::max<int64_t>(1, kRowFloatsPerClaim / std::max<int64_t>(1, width));
    pool_->parallel_for(m, claim, body);
  }

  Isa isa_;
  std::shared_ptr<ThreadPool> pool_;
  const IntGemmKernel& w4ax_;
  const IntGemmKernel& w8a8_;
  const GemmW16Kernel& w16_;
  const QuantizeActKernel& quantize_act_;
  const ElementwiseKernels& elementwise_;
  CpuMemory memory_;
  CpuScratch scratch_;
};

}  // namespace

std::unique_ptr<Backend> cpu_backend(const std::string& isa, std::shared_ptr<ThreadPool> pool) {
  COMET_CHECK(pool != nullptr, "cpu_backend needs a thread pool");
  return std::make_unique<CpuBackend>(choose_isa(isa, detect_isas()), std::move(pool));
}

}  // namespace comet
