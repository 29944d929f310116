// SPDX-License-Identifier: Apache-2.0
// The scalar reference of every op: slow, obvious, one row or one element at a time. All kernels are held against it.
#pragma once

#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/quantize_act.h"

namespace comet {

// Element i of an array of f32, bf16 or f16, widened exactly.
float load_float(const void* data, DType dtype, int64_t i);

void quantize_act_ref(const QuantizeActProblem& problem, const QuantizeActArgs& args);

// b.data of gemm_w4ax_ref: canonical codes [n, k/2], then one parameter byte a group [n, k/128] (quant/weights.h).
void gemm_w4ax_ref(const GemmProblem& problem, const GemmArgs& args);
// b.data of gemm_w8a8_ref: s8 [n, k].
void gemm_w8a8_ref(const GemmProblem& problem, const GemmArgs& args);
// Sums in double.
void gemm_w16_ref(const GemmProblem& problem, const GemmW16Args& args);

// Byte order of the reference cache: [kv_block][kv head][slot]{K codes [dim], V codes [dim], params [groups + 1]} where
// a code is one byte and params are {u16 scale bits, u8 zero, u8 unused}, the last one V's; kv16: {K bf16 [dim], V bf16
// [dim]}.
size_t kv_slot_bytes_ref(const KvShape& kv);
void rope_append_ref(const RopeAppendProblem& problem, const RopeAppendArgs& args);
void attention_ref(const AttentionProblem& problem, const AttentionArgs& args);

void embed_ref(const EmbedArgs& args);
void rms_norm_ref(const RmsNormArgs& args);
void silu_mul_ref(const SiluMulArgs& args);
void check_finite_ref(const CheckFiniteArgs& args);

}  // namespace comet
