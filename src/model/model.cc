// SPDX-License-Identifier: Apache-2.0
#include "model/model.h"

#include <algorithm>

#include "base/check.h"

namespace comet {
namespace {

constexpr int kPlaceHead = 5;

ModelOptions resolve_options(const ModelConfig& config, ModelOptions o) {
  if (o.max_positions == 0) o.max_positions = config.max_positions;
  if (o.max_positions > config.max_positions)
    throw_invalid("max_model_len {} is above the model's max_position_embeddings {}", o.max_positions,
                  config.max_positions);
  COMET_CHECK(o.max_batch_tokens >= 1 && o.max_logit_rows >= 1, "{} {}", o.max_batch_tokens, o.max_logit_rows);
  return o;
}

ActFormat head_format(const ModelConfig& c) { return {.k_in = c.hidden_size, .k = padded_channels(c.hidden_size)}; }

}  // namespace

KvFormat resolve_kv_format(const ModelConfig& config, int kv_bits) {
  KvFormat kv;
  if (config.quantization) kv = config.quantization->kv;
  if (kv_bits != 0) {
    if (kv_bits != 4 && kv_bits != 8 && kv_bits != 16)
      throw_invalid("KV bits {} are not supported (4, 8, 16)", kv_bits);
    if (!config.quantization && kv_bits != 16) kv.k_rotate = is_power_of_two(config.head_dim);
    kv.bits = kv_bits;
  }
  return kv;
}

void HostBatch::add_sequence(std::span<const int32_t> chunk_ids, int first_position, std::span<const int32_t> blocks) {
  if (seq_first_token.empty()) seq_first_token.push_back(0);
  const int seq = num_seqs();
  for (size_t i = 0; i < chunk_ids.size(); ++i) {
    ids.push_back(chunk_ids[i]);
    positions.push_back(first_position + static_cast<int>(i));
    token_seqs.push_back(seq);
  }
  seq_first_token.push_back(num_tokens());
  const int stride = std::max(block_table_stride, static_cast<int>(blocks.size()));
  if (stride > block_table_stride) {  // widen the earlier rows
    std::vector<int32_t> wider(static_cast<size_t>(seq) * stride, 0);
    for (int s = 0; s < seq; ++s)
      std::copy_n(block_tables.begin() + int64_t{s} * block_table_stride, block_table_stride,
                  wider.begin() + int64_t{s} * stride);
    block_tables = std::move(wider);
    block_table_stride = stride;
  }
  block_tables.resize(static_cast<size_t>(seq + 1) * stride, 0);
  std::copy(blocks.begin(), blocks.end(), block_tables.begin() + int64_t{seq} * stride);
}

Model::Model(Backend& backend, const Checkpoint& checkpoint, const ModelOptions& options,
             const std::function<void(int, int)>& progress)
    : backend_(&backend),
      checkpoint_(checkpoint),
      options_(resolve_options(checkpoint.config(), options)),
      kv_(resolve_kv_format(checkpoint.config(), options.kv_bits)),
      workspace_(backend, checkpoint_.config(), options_.max_batch_tokens),
      rope_(backend, checkpoint_.config(), options_.max_positions) {
  const ModelConfig& c = checkpoint_.config();
  auto upload_tensor = [&](const LoadedTensor& t, DType& dtype) {
    dtype = t.view.dtype;
    DeviceBuffer buffer(backend, t.view.bytes());
    backend.copy_in(buffer.data(), t.view.data, t.view.bytes());
    return buffer;
  };
  embedding_ = upload_tensor(checkpoint_.float_tensor("model.embed_tokens.weight", {c.vocab_size, c.hidden_size}),
                             embedding_dtype_);
  final_gain_ = upload_tensor(checkpoint_.float_tensor("model.norm.weight", {c.hidden_size}), final_gain_dtype_);
  for (int i = 0; i < c.num_layers; ++i) {
    if (progress) progress(i, c.num_layers);
    layers_.push_back(std::make_unique<DecoderLayer>(backend, checkpoint_, i, kv_));
  }
  lm_head_ =
      checkpoint_.is_quantized()
          ? Linear::load_w8a8(backend, checkpoint_, c.vocab_size, padded_channels(c.hidden_size))
          : Linear::load_w16_tensor(backend, checkpoint_, checkpoint_.lm_head_name(), c.vocab_size, c.hidden_size);
  if (progress) progress(c.num_layers, c.num_layers);

  const size_t tokens = static_cast<size_t>(options_.max_batch_tokens),
               rows = static_cast<size_t>(options_.max_logit_rows);
  const size_t blocks = static_cast<size_t>((options_.max_positions + kKvBlock - 1) / kKvBlock);
  ids_ = DeviceBuffer(backend, tokens * sizeof(int32_t));
  positions_ = DeviceBuffer(backend, tokens * sizeof(int32_t));
  token_seqs_ = DeviceBuffer(backend, tokens * sizeof(int32_t));
  seq_first_token_ = DeviceBuffer(backend, (tokens + 1) * sizeof(int32_t));
  block_tables_ = DeviceBuffer(backend, tokens * blocks * sizeof(int32_t));
  logit_rows_ = DeviceBuffer(backend, rows * sizeof(int32_t));
  logits_ = DeviceBuffer(backend, rows * static_cast<size_t>(c.vocab_size) * sizeof(float));
  logit_errors_ = DeviceBuffer(backend, rows * sizeof(uint32_t));
  head_input_ = checkpoint_.is_quantized()
                    ? DeviceBuffer(backend, backend.acts_bytes(options_.max_logit_rows, padded_channels(c.hidden_size)))
                    : DeviceBuffer(backend, rows * static_cast<size_t>(c.hidden_size) * sizeof(float));
}

size_t Model::weight_bytes() const {
  size_t total = embedding_.bytes() + final_gain_.bytes() + lm_head_.bytes();
  for (const auto& layer : layers_) total += layer->weight_bytes();
  return total;
}

BatchView Model::upload_batch(const HostBatch& b) {
  const int tokens = b.num_tokens();
  const int max_blocks = (options_.max_positions + kKvBlock - 1) / kKvBlock;
  COMET_CHECK(tokens >= 1 && tokens <= options_.max_batch_tokens, "{} tokens, at most {}", tokens,
              options_.max_batch_tokens);
  COMET_CHECK(static_cast<int>(b.logit_rows.size()) <= options_.max_logit_rows, "{} logit rows, at most {}",
              b.logit_rows.size(), options_.max_logit_rows);
  COMET_CHECK(b.block_table_stride <= max_blocks, "{} blocks in a table, at most {}", b.block_table_stride, max_blocks);
  for (int i = 0; i < tokens; ++i) {
    if (b.ids[i] < 0 || b.ids[i] >= config().vocab_size)
      throw_invalid("token id {} is outside the vocabulary of {}", b.ids[i], config().vocab_size);
    COMET_CHECK(b.positions[i] >= 0 && b.positions[i] < options_.max_positions, "position {} of {}", b.positions[i],
                options_.max_positions);
  }
  auto copy = [&](const DeviceBuffer& to, const std::vector<int32_t>& from) {
    if (!from.empty()) backend_->copy_in(to.data(), from.data(), from.size() * sizeof(int32_t));
  };
  copy(ids_, b.ids);
  copy(positions_, b.positions);
  copy(token_seqs_, b.token_seqs);
  copy(seq_first_token_, b.seq_first_token);
  copy(block_tables_, b.block_tables);
  copy(logit_rows_, b.logit_rows);
  return {.num_tokens = tokens,
          .num_seqs = b.num_seqs(),
          .token_seqs = token_seqs_.as<int32_t>(),
          .positions = positions_.as<int32_t>(),
          .seq_first_token = seq_first_token_.as<int32_t>(),
          .block_tables = block_tables_.as<int32_t>(),
          .block_table_stride = b.block_table_stride};
}

ForwardResult Model::forward(const HostBatch& batch, KvPool& pool, const Tap* tap) {
  const ModelConfig& c = config();
  const BatchView view = upload_batch(batch);
  ForwardResult result;
  result.row_errors.assign(static_cast<size_t>(batch.num_tokens()), 0);
  backend_->copy_in(workspace_.row_errors.data(), result.row_errors.data(),
                    result.row_errors.size() * sizeof(uint32_t));
  backend_->embed({.m = batch.num_tokens(),
                   .hidden = c.hidden_size,
                   .ids = ids_.as<int32_t>(),
                   .table = embedding_.data(),
                   .table_dtype = embedding_dtype_,
                   .out = workspace_.residual.as<float>()});
  for (int i = 0; i < c.num_layers; ++i)
    layers_[static_cast<size_t>(i)]->forward(
        {.batch = view, .workspace = &workspace_, .rope = &rope_, .cache = pool.layer(i), .tap = tap});
  backend_->synchronize();
  backend_->copy_out(result.row_errors.data(), workspace_.row_errors.data(),
                     result.row_errors.size() * sizeof(uint32_t));
  if (!batch.logit_rows.empty()) project(batch, result);
  return result;
}

void Model::project(const HostBatch& batch, ForwardResult& result) {
  const ModelConfig& c = config();
  const int rows = static_cast<int>(batch.logit_rows.size());
  const uint32_t tag = error_tag(c.num_layers, kPlaceHead);
  std::vector<uint32_t> errors(static_cast<size_t>(rows), 0);
  backend_->copy_in(logit_errors_.data(), errors.data(), errors.size() * sizeof(uint32_t));
  if (lm_head_.scheme() == Linear::Scheme::w8a8) {
    const QuantizedActs acts = backend_->bind_acts(head_input_.data(), rows, lm_head_.k());
    backend_->quantize_act({.m = rows, .format = head_format(c), .source = ActSource::rms_norm},
                           {.x = workspace_.residual.data(),
                            .row_ids = logit_rows_.as<int32_t>(),
                            .gain = final_gain_.data(),
                            .gain_dtype = final_gain_dtype_,
                            .eps = c.rms_norm_eps,
                            .out = acts,
                            .row_errors = logit_errors_.as<uint32_t>(),
                            .error_tag = tag});
    lm_head_.run(rows, acts, 0, GemmOutput::f32, logits_.data());
  } else {
    backend_->rms_norm({.m = rows,
                        .hidden = c.hidden_size,
                        .x = workspace_.residual.as<float>(),
                        .row_ids = logit_rows_.as<int32_t>(),
                        .gain = final_gain_.data(),
                        .gain_dtype = final_gain_dtype_,
                        .eps = c.rms_norm_eps,
                        .out = head_input_.as<float>()});
    lm_head_.run(rows, head_input_.as<float>(), GemmOutput::f32, logits_.as<float>());
  }
  backend_->check_finite({.m = rows,
                          .n = c.vocab_size,
                          .x = logits_.as<float>(),
                          .row_errors = logit_errors_.as<uint32_t>(),
                          .error_tag = tag});
  backend_->synchronize();
  result.logits.resize(static_cast<size_t>(rows) * c.vocab_size);
  backend_->copy_out(result.logits.data(), logits_.data(), result.logits.size() * sizeof(float));
  backend_->copy_out(errors.data(), logit_errors_.data(), errors.size() * sizeof(uint32_t));
  for (int i = 0; i < rows; ++i) {
    uint32_t& error = result.row_errors[static_cast<size_t>(batch.logit_rows[static_cast<size_t>(i)])];
    if (error == 0) error = errors[static_cast<size_t>(i)];
  }
}

}  // namespace comet
