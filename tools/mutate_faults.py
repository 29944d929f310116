# SPDX-License-Identifier: Apache-2.0
"""The one-line faults that tools/mutate plants, each with the tests that must notice it."""

from dataclasses import dataclass

# (test folder, filter). The first that fails ends the matter.
CONTRACT = ("contract", "*")
VNNI = ("kernels", "*avx512vnni_1thread")
AVX2 = ("kernels", "*avx2_1thread")
ATTENTION = ("kernels_attention", "*")
PROMISE = ("promise", "*LogitsAreTheKeptOnes/avx*")
PREEMPTION = ("promise", "Preemption.Avx2*")
CONTAINMENT = ("promise", "*Containment*/avx2")
ENGINE = ("engine", "*")
FRONTEND = ("frontend", "*")
FOLDS = ("quantizer", "Folds*")
QUANTIZER = ("quantizer", "-Folds*")
BAD_FILE = ("model", "Bad*")
WINDOWS = ("model", "*window*:Windows*")
TEXT = ("text", "*")


@dataclass(frozen=True)
class Fault:
    name: str
    file: str
    old: str  # exactly once in the file, white space apart
    new: str
    tests: tuple


REF = "src/kernels/ref/"
CPU = "src/kernels/cpu/"
FAULTS = [
    Fault(
        "nibble order of the codes",
        "src/quant/weights.h",
        "(even & 15) | (odd << 4)",
        "(odd & 15) | (even << 4)",
        (CONTRACT,),
    ),
    Fault(
        "nibble order of packed weights",
        CPU + "packed_weights.cc",
        "(in[0] & 15) | (in[2] << 4)",
        "(in[2] & 15) | (in[0] << 4)",
        (AVX2, VNNI),
    ),
    Fault(
        "zero without its sign, avx512vnni",
        CPU + "gemm_w4ax_avx512vnni.cc",
        "_mm512_sub_epi32(_mm512_setzero_si512(), z)",
        "_mm512_add_epi32(_mm512_setzero_si512(), z)",
        (VNNI,),
    ),
    Fault(
        "sign of z, avx2",
        CPU + "gemm_w4ax_avx2.cc",
        "_mm256_sub_epi32(total[t], _mm256_madd_epi16(s1_z",
        "_mm256_add_epi32(total[t], _mm256_madd_epi16(s1_z",
        (AVX2,),
    ),
    Fault(
        "missing r, ref",
        REF + "gemm_ref.cc",
        "static_cast<uint32_t>(args.a.region1_factors[t]) * acc1 + acc2",
        "acc1 + acc2",
        (CONTRACT,),
    ),
    Fault(
        "missing r, avx512vnni",
        CPU + "gemm_w4ax_avx512vnni.cc",
        "_mm512_set1_epi32(a.region1_factors[t])",
        "_mm512_set1_epi32(1)",
        (VNNI,),
    ),
    Fault(
        "r one group late, avx2",
        CPU + "gemm_w4ax_avx2.cc",
        "if (g + 1 == a.num_int8_groups)",
        "if (g == a.num_int8_groups)",
        (AVX2,),
    ),
    Fault(
        "region 1 one channel short, ref",
        REF + "gemm_ref.cc",
        "(k < k1 ? acc1 : acc2)",
        "(k < k1 - 1 ? acc1 : acc2)",
        (CONTRACT,),
    ),
    Fault(
        "missing m, ref",
        REF + "quantize_act_ref.cc",
        "static_cast<int8_t>(values[g * kGroup + i] * m)",
        "static_cast<int8_t>(values[g * kGroup + i])",
        (CONTRACT,),
    ),
    Fault(
        "missing m in osum, ref",
        REF + "quantize_act_ref.cc",
        "static_cast<uint32_t>(m * group_sums[g])",
        "static_cast<uint32_t>(int32_t{group_sums[g]})",
        (CONTRACT,),
    ),
    Fault(
        "clips of the regions swapped",
        REF + "quantize_act_ref.cc",
        "amax2, f.clip1, f.clip2,",
        "amax2, f.clip2, f.clip1,",
        (CONTRACT,),
    ),
    Fault(
        "largest multiplier 16", "src/quant/activations.h", "kMaxMultiplier = 17", "kMaxMultiplier = 16", (CONTRACT,)
    ),
    Fault(
        "stale scale of the row before",
        REF + "gemm_ref.cc",
        "* args.a.scales[t])",
        "* args.a.scales[t > 0 ? t - 1 : 0])",
        (CONTRACT,),
    ),
    Fault(
        "bias dropped at load",
        "src/model/linear.cc",
        "linear.channel_scales_ = upload(backend, channel_scales); if (has_bias)",
        "linear.channel_scales_ = upload(backend, channel_scales); if (false)",
        (PROMISE,),
    ),
    Fault(
        "missing bias, ref",
        REF + "gemm_ref.cc",
        "* args.channel_scales[n]; if (args.bias != nullptr)",
        "* args.channel_scales[n]; if (false)",
        (CONTRACT,),
    ),
    Fault("missing Hadamard scale", "src/quant/fp32.h", "x[i] = x[i] * scale;", "x[i] = x[i];", (CONTRACT,)),
    Fault("exp2 coefficient", "src/quant/fp32.h", "0x1.ebf9aep-3f", "0x1.ebf9b0p-3f", (CONTRACT,)),
    Fault(
        "exp2 coefficient, vector code", CPU + "attention_int_body.h", "0x1.ebf9aep-4f", "0x1.ebfaaep-4f", (ATTENTION,)
    ),
    Fault(
        "epsilon of RMSNorm dropped",
        "src/quant/fp32.h",
        "static_cast<float>(n) + eps",
        "static_cast<float>(n)",
        (CONTRACT,),
    ),
    Fault(
        "RoPE pair swapped",
        REF + "rope_append_ref.cc",
        "x[i] = ac - bs; x[i + half] = bc + as;",
        "x[i] = bc + as; x[i + half] = ac - bs;",
        (CONTRACT,),
    ),
    Fault(
        "RoPE pairs of neighbours",
        REF + "rope_append_ref.cc",
        "a = x[i], b = x[i + half];",
        "a = x[i], b = x[i + 1];",
        (CONTRACT,),
    ),
    Fault("zero of K dropped, ref", REF + "attention_ref.cc", "(slots[t].k[i] - p.zero)", "slots[t].k[i]", (CONTRACT,)),
    Fault(
        "zero of V dropped, ref",
        REF + "attention_ref.cc",
        "(slots[t].v[i] - slots[t].params[groups].zero)",
        "slots[t].v[i]",
        (CONTRACT,),
    ),
    Fault(
        "mask one key too far, ref",
        REF + "attention_ref.cc",
        "position + 1) - first",
        "position + 2) - first",
        (CONTRACT,),
    ),
    Fault(
        "window one key too far",
        "src/kernels/attention.h",
        "position - p.window + 1 : 0",
        "position - p.window : 0",
        (CONTRACT,),
    ),
    Fault(
        "window one key too far, vector code",
        CPU + "attention_int_body.h",
        "first_key - v * S::kLanes), masked, x)",
        "first_key - v * S::kLanes - 1), masked, x)",
        (ATTENTION,),
    ),
    Fault(
        "rows that begin inside a split fold into what was there",
        CPU + "attention_tile_body.h",
        "int begun = end_row;",
        "int begun = tile.num_rows;",
        (ATTENTION,),
    ),
    Fault(
        "a row's first split taken for the sequence's",
        CPU + "attention_tile_body.h",
        "split == tile.first_visible[r] / kSplitKeys",
        "split == 0",
        (ATTENTION,),
    ),
    Fault(
        "windows in the layers before max_window_layers",
        "src/model/config.cc",
        "std::min(first, num_layers), false);",
        "num_layers - std::min(first, num_layers), false);",
        (WINDOWS,),
    ),
    Fault(
        "mask one key too far, vector code",
        CPU + "attention_int_body.h",
        "first_key - v * S::kLanes), x, masked)",
        "first_key - v * S::kLanes + 1), x, masked)",
        (ATTENTION,),
    ),
    Fault(
        "mask one key short, vector code",
        CPU + "attention_int_body.h",
        "first_key - v * S::kLanes), u, zero)",
        "first_key - v * S::kLanes - 1), u, zero)",
        (ATTENTION,),
    ),
    Fault(
        "stale maximum in the fold, vector code",
        CPU + "attention_int_body.h",
        "scale_new = exp2_stated_lanes<S>(S::sub(m2, top))",
        "scale_new = exp2_stated_lanes<S>(S::sub(m, top))",
        (ATTENTION,),
    ),
    Fault(
        "three blocks to a split", "src/quant/kv.h", "kBlocksPerSplit = 4;", "kBlocksPerSplit = 3;", (CONTRACT, PROMISE)
    ),
    Fault(
        "splits folded into the row in the other order, ref",
        REF + "attention_ref.cc",
        "row.merge(split); split = Partial{};",
        "split.merge(row); row = split; split = Partial{};",
        (CONTRACT, ATTENTION),
    ),
    Fault(
        "wrong block-table slot, ref",
        REF + "kv_slot.h",
        "position / kKvBlock];",
        "(position + 1) / kKvBlock];",
        (CONTRACT,),
    ),
    Fault(
        "wrong block-table row, append",
        CPU + "rope_append_body.h",
        "int64_t{b.token_seqs[t]} * b.block_table_stride",
        "int64_t{0} * b.block_table_stride",
        (ATTENTION,),
    ),
    Fault(
        "a step's widened block tables lose a row",
        "src/model/model.cc",
        "for (int s = 0; s < seq; ++s)",
        "for (int s = 1; s < seq; ++s)",
        (PREEMPTION,),
    ),
    Fault(
        "logits of the chunk's first token",
        "src/engine/runner.cc",
        "push_back(batch.num_tokens() - 1)",
        "push_back(batch.num_tokens() - chunk.count)",
        (PREEMPTION,),
    ),
    Fault(
        "errors of rows not read back",
        "src/model/model.cc",
        "backend_->copy_out(result.row_errors.data(), workspace_.row_errors.data(),",
        "if (false) backend_->copy_out(result.row_errors.data(), workspace_.row_errors.data(),",
        (CONTAINMENT,),
    ),
    Fault(
        "seed and position swapped",
        "src/engine/sampler.cc",
        "random_bits(in.seed, in.choice_idx, position)",
        "random_bits(position, in.choice_idx, static_cast<uint32_t>(in.seed))",
        (ENGINE,),
    ),
    Fault(
        "preempted sequence keeps its progress",
        "src/engine/scheduler.cc",
        "s.num_computed = s.num_kept = 0;",
        "s.num_kept = 0;",
        (ENGINE,),
    ),
    Fault(
        "kv_block findable before it is full",
        "src/engine/scheduler.cc",
        "(s.num_kept + 1) * size <= s.num_computed;",
        "(s.num_kept + 1) * size <= s.num_computed + 1;",
        (ENGINE,),
    ),
    Fault(
        "kv_block still found when given out again",
        "src/engine/block_manager.cc",
        "if (cache_) cache_->forget(block);",
        "",
        (ENGINE,),
    ),
    Fault(
        "shared kv_block freed too early",
        "src/engine/block_manager.cc",
        "--ref_counts_[static_cast<size_t>(block)] > 0) return;",
        "--ref_counts_[static_cast<size_t>(block)] > 1) return;",
        (ENGINE,),
    ),
    Fault(
        "last event lost",
        "src/engine/engine_core.cc",
        "tell(node.mapped(), std::move(event));",
        "if (event.finish != FinishReason::cancelled) tell(node.mapped(), std::move(event));",
        (ENGINE,),
    ),
    Fault(
        "stop string off by one",
        "src/frontend/stop_strings.cc",
        "held_.substr(0, first);",
        "held_.substr(0, first + 1);",
        (FRONTEND,),
    ),
    Fault(
        "holds back one byte too few",
        "src/frontend/stop_strings.cc",
        "std::min(held_.size(), stop.size() - 1)",
        "std::min(held_.size(), stop.size() - 2)",
        (FRONTEND,),
    ),
    Fault(
        "half a character given out",
        "src/text/detokenizer.cc",
        "return take_valid_utf8(pending_);",
        "return std::exchange(pending_, {});",
        (TEXT,),
    ),
    Fault(
        "rounds half the group's range away",
        "src/quant/quantize_weights.cc",
        "(high - low + 14) / 15)",
        "(high - low) / 15)",
        (CONTRACT,),
    ),
    Fault(
        "V's rotation not undone",
        "src/quantizer/quantize_model.cc",
        "rotate_output_columns(o[0].weights, c.head_dim);",
        "",
        (FOLDS,),
    ),
    Fault(
        "bias of V not rotated",
        "src/quantizer/quantize_model.cc",
        "rotate_value_rows(biases[2], c.head_dim, 1);",
        "{}",
        (FOLDS, PROMISE),
    ),
    Fault(
        "norm gains of K not smoothed",
        "src/quantizer/quantize_model.cc",
        "k_gain[static_cast<size_t>(i)], -exponent)",
        "k_gain[static_cast<size_t>(i)], 0)",
        (FOLDS,),
    ),
    Fault(
        "down's columns not permuted",
        "src/quantizer/quantize_model.cc",
        "permute_columns(down[0].weights, order);",
        "",
        (FOLDS,),
    ),
    Fault(
        "error feedback with the wrong sign",
        "src/quantizer/quantize_row.cc",
        "row[j] -= error * spread[j]",
        "row[j] += error * spread[j]",
        (FOLDS,),
    ),
    Fault(
        "unfinished output stays",
        "src/quantizer/output_folder.cc",
        "if (!committed_) fs::remove_all(partial_, ignored);",
        "",
        (QUANTIZER,),
    ),
    Fault("a channel twice in act_perm", "src/model/checkpoint.cc", "if (seen[perm[i]])", "if (false)", (QUANTIZER,)),
    Fault("overlapping tensors", "src/model/safetensors.cc", "if (r.begin < at)", "if (false)", (BAD_FILE,)),
    Fault(
        "tensor beyond the file's end",
        "src/model/safetensors.cc",
        "begin > end || end > data_bytes",
        "begin > end || end > data_bytes + 1",
        (BAD_FILE,),
    ),
]
