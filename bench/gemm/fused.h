// SPDX-License-Identifier: Apache-2.0
// A linear layer with its norm: fp32 residual rows to the activations of our GEMM, and to fp16 for cuBLAS.
#pragma once

#include "bench/gemm/layer.h"

namespace comet::cuda {

class FusedInput {
 public:
  // Throws Unsupported where quantize_act_ax_sm90 or the RMSNorm has no room for a row.
  FusedInput(int m, int k, ActLayout layout, const Regions& regions, int sms, cudaStream_t stream);

  // RMSNorm, permute, rotate, quantize into acts(); or RMSNorm into normed(). Of the i-th copy of the rows, queued.
  void quantize(int i) const;
  void norm(int i) const;
  // In place of quantize: reads the rows and writes the codes of acts(), the same again.
  void move(int i);

  Acts& acts() { return acts_; }
  const void* normed() const { return normed_.data(); }  // fp16 [m, k]

  // acts() and normed() of copy 0 against the reference, for the first, middle and last token. Wrong values.
  int count_wrong_codes() const;
  int count_wrong_norms() const;
  void poison();

 private:
  std::vector<int> checked_tokens() const;
  std::vector<float> host_row(int token) const;

  int m_, k_, n8_, bits2_, sms_, copies_;
  cudaStream_t stream_;
  Acts acts_;
  std::vector<float> host_gain_;
  std::vector<int32_t> host_perm_;
  DeviceArray<uint16_t> gain_;  // bf16
  DeviceArray<float> x_;        // [copies][m, k]
  DeviceArray<int32_t> perm_;
  DeviceArray<uint16_t> normed_;
};

}  // namespace comet::cuda
