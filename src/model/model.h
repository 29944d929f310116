// SPDX-License-Identifier: Apache-2.0
// A whole decoder model on a backend: embedding, layers, final norm, output projection.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "model/decoder_layer.h"
#include "model/kv_pool.h"

namespace comet {

struct ModelOptions {
  int kv_bits = 0;        // 0: what the checkpoint says; unquantized: 16
  int max_positions = 0;  // longest sequence; 0: the model's
  int max_batch_tokens = 512;
  int max_logit_rows = 512;  // rows of logits one forward may return
};

// One step's tokens on the host: chunks of consecutive positions of several sequences.
struct HostBatch {
  std::vector<int32_t> ids;              // [num_tokens]
  std::vector<int32_t> positions;        // [num_tokens]
  std::vector<int32_t> token_seqs;       // [num_tokens] ascending
  std::vector<int32_t> seq_first_token;  // [num_seqs + 1]
  std::vector<int32_t> block_tables;     // [num_seqs, block_table_stride]
  int block_table_stride = 0;
  std::vector<int32_t> logit_rows;  // tokens whose logits are wanted

  int num_tokens() const { return static_cast<int>(ids.size()); }
  int num_seqs() const { return static_cast<int>(seq_first_token.size()) - 1; }

  // Adds a chunk: ids at positions first, first + 1, ..; blocks: the sequence's block table. Every sequence once.
  void add_sequence(std::span<const int32_t> chunk_ids, int first_position, std::span<const int32_t> blocks);
};

struct ForwardResult {
  std::vector<float> logits;         // [logit_rows, vocab]
  std::vector<uint32_t> row_errors;  // [num_tokens]; 0 or a tag for describe_error_tag
};

class Model {
 public:
  // Loads every weight. Throws InvalidInput / Unsupported. progress, when given, is called with layers done and total.
  Model(Backend& backend, const Checkpoint& checkpoint, const ModelOptions& options,
        const std::function<void(int, int)>& progress = {});
  Model(const Model&) = delete;  // layers point at its config
  Model& operator=(const Model&) = delete;

  const ModelConfig& config() const { return checkpoint_.config(); }
  const KvFormat& kv_format() const { return kv_; }
  const ModelOptions& options() const { return options_; }  // resolved
  Backend& backend() const { return *backend_; }
  size_t weight_bytes() const;

  ForwardResult forward(const HostBatch& batch, KvPool& pool, const Tap* tap = nullptr);

 private:
  BatchView upload_batch(const HostBatch& batch);
  void project(const HostBatch& batch, ForwardResult& result);

  Backend* backend_;
  Checkpoint checkpoint_;
  ModelOptions options_;
  KvFormat kv_;
  DType embedding_dtype_ = DType::bf16, final_gain_dtype_ = DType::bf16;
  DeviceBuffer embedding_, final_gain_;
  std::vector<std::unique_ptr<DecoderLayer>> layers_;
  Linear lm_head_;
  Workspace workspace_;
  RopeBuffers rope_;
  DeviceBuffer ids_, positions_, token_seqs_, seq_first_token_, block_tables_, logit_rows_;
  DeviceBuffer logits_, logit_errors_, head_input_;
};

// How K and V are kept: the checkpoint's format with bits overridden.
KvFormat resolve_kv_format(const ModelConfig& config, int kv_bits);

}  // namespace comet
