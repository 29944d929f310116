// SPDX-License-Identifier: Apache-2.0
// For tests of what happens when a device fails: a backend that throws at a call of choice.
#pragma once

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace comet {

// Does what `inner` does, until the call that fail_at() named: that one throws "the device fell off".
class FailingBackend final : public Backend {
 public:
  explicit FailingBackend(std::unique_ptr<Backend> inner) : b_(std::move(inner)) {}

  // The calls that a step of the engine makes.
  static std::vector<std::string> calls() {
    return {"copy_in",     "copy_out",  "synchronize", "embed",    "rms_norm",
            "rope_append", "attention", "silu_mul",    "gemm_w16", "check_finite"};
  }
  // The countdown-th call of this name from now on.
  void fail_at(const std::string& call, int countdown = 1) {
    call_ = call;
    countdown_ = countdown;
  }

  std::string name() const override { return "failing"; }
  std::vector<std::string> kernels() const override { return b_->kernels(); }
  void* allocate(size_t bytes) override { return b_->allocate(bytes); }
  void free(void* p) override { b_->free(p); }
  PackedWeights pack_w4ax(const W4axWeights& w) override { return b_->pack_w4ax(w); }
  PackedWeights pack_w8(const W8Weights& w) override { return b_->pack_w8(w); }
  size_t acts_bytes(int m, int k) const override { return b_->acts_bytes(m, k); }
  QuantizedActs bind_acts(void* memory, int m, int k) const override { return b_->bind_acts(memory, m, k); }
  size_t kv_block_bytes(const KvShape& kv) const override { return b_->kv_block_bytes(kv); }
  void quantize_act(const QuantizeActProblem& p, const QuantizeActArgs& a) override { b_->quantize_act(p, a); }
  void gemm_w4ax(const GemmProblem& p, const GemmArgs& a) override { b_->gemm_w4ax(p, a); }
  void gemm_w8a8(const GemmProblem& p, const GemmArgs& a) override { b_->gemm_w8a8(p, a); }

  void copy_in(void* device, const void* host, size_t bytes) override {
    pass("copy_in");
    b_->copy_in(device, host, bytes);
  }
  void copy_out(void* host, const void* device, size_t bytes) override {
    pass("copy_out");
    b_->copy_out(host, device, bytes);
  }
  void synchronize() override {
    pass("synchronize");
    b_->synchronize();
  }
  void embed(const EmbedArgs& a) override {
    pass("embed");
    b_->embed(a);
  }
  void rms_norm(const RmsNormArgs& a) override {
    pass("rms_norm");
    b_->rms_norm(a);
  }
  void silu_mul(const SiluMulArgs& a) override {
    pass("silu_mul");
    b_->silu_mul(a);
  }
  void check_finite(const CheckFiniteArgs& a) override {
    pass("check_finite");
    b_->check_finite(a);
  }
  void gemm_w16(const GemmProblem& p, const GemmW16Args& a) override {
    pass("gemm_w16");
    b_->gemm_w16(p, a);
  }
  void rope_append(const RopeAppendProblem& p, const RopeAppendArgs& a) override {
    pass("rope_append");
    b_->rope_append(p, a);
  }
  void attention(const AttentionProblem& p, const AttentionArgs& a) override {
    pass("attention");
    b_->attention(p, a);
  }

 private:
  // countdown_ is written last and read first: fail_at() may come while the engine runs.
  void pass(const char* call) {
    if (countdown_ == 0 || call_ != call) return;
    if (--countdown_ == 0) throw std::runtime_error("the device fell off");
  }

  std::unique_ptr<Backend> b_;
  std::string call_;
  std::atomic<int> countdown_{0};
};

}  // namespace comet
