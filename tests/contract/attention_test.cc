// SPDX-License-Identifier: Apache-2.0
// The reference's cache codec, attention and whole models against the NumPy model.
#include <fstream>
#include <numeric>

#include "contract/cases.h"
#include "kernels/backend.h"
#include "kernels/ref/kv_slot.h"
#include "model/model.h"

namespace comet::contract {
namespace {

// One sequence at positions first, first + 1, .. whose kv_blocks are 0, 1, ..
struct OneSequence {
  OneSequence(int first, int count) {
    for (int i = 0; i < count; ++i) positions.push_back(first + i);
    token_seqs.assign(static_cast<size_t>(count), 0);
    seq_first_token = {0, count};
    blocks.resize(static_cast<size_t>((first + count + kKvBlock - 1) / kKvBlock));
    std::iota(blocks.begin(), blocks.end(), 0);
  }
  BatchView view() const {
    return {.num_tokens = static_cast<int>(positions.size()),
            .num_seqs = 1,
            .token_seqs = token_seqs.data(),
            .positions = positions.data(),
            .seq_first_token = seq_first_token.data(),
            .block_tables = blocks.data(),
            .block_table_stride = static_cast<int>(blocks.size())};
  }
  std::vector<int32_t> positions, token_seqs, seq_first_token, blocks;
};

// Sequences share kv_blocks, so it matters where a position lies, not only that no two lie together.
TEST(Contract, PositionsLieInTheBlockOfTheirTable) {
  const KvShape kv{.num_kv_heads = 3, .head_dim = 64, .bits = 4};
  OneSequence sequence(0, 3 * kKvBlock);
  sequence.blocks = {7, 2, 5};
  const size_t block_bytes = ref_backend()->kv_block_bytes(kv);
  std::vector<uint8_t> cache(block_bytes * 8);
  for (const int position : sequence.positions)
    for (int head = 0; head < kv.num_kv_heads; ++head) {
      const auto* k = reinterpret_cast<uint8_t*>(slot_ref(kv, cache.data(), sequence.view(), 0, position, head).k);
      const auto block = static_cast<size_t>(sequence.blocks[static_cast<size_t>(position / kKvBlock)]);
      const auto slot = static_cast<size_t>(head * kKvBlock + position % kKvBlock);
      ASSERT_EQ(k - cache.data(), static_cast<ptrdiff_t>(block * block_bytes + slot * kv_slot_bytes_ref(kv)));
    }
}

TEST(Contract, RopeAppend) {
  const CaseFile file("rope_append");
  const auto backend = ref_backend();
  for (const std::string& name : file.names()) {
    const int tokens = file.dim(name, "q", 0), heads = file.integer(name, "num_heads"),
              kv_heads = file.integer(name, "num_kv_heads");
    const KvShape kv{.num_kv_heads = kv_heads, .head_dim = file.dim(name, "q", 2), .bits = file.integer(name, "bits")};
    const OneSequence sequence(0, tokens);  // cos and sin rows are by token
    std::vector<uint8_t> cache(backend->kv_block_bytes(kv) * sequence.blocks.size(), 0xff);
    const std::vector<uint16_t> qkv = file.get<uint16_t>(name, "qkv");
    const std::vector<float> cos = file.get<float>(name, "cos"), sin = file.get<float>(name, "sin");
    std::vector<float> q_gain, k_gain, q(static_cast<size_t>(tokens) * heads * kv.head_dim);
    if (file.has(name, "q_gain")) q_gain = file.get<float>(name, "q_gain"), k_gain = file.get<float>(name, "k_gain");
    std::vector<uint32_t> errors(static_cast<size_t>(tokens), 0);
    backend->rope_append({.num_heads = heads, .kv = kv, .k_rotate = file.integer(name, "rotate") != 0},
                         {.qkv = qkv.data(),
                          .cos = cos.data(),
                          .sin = sin.data(),
                          .q_norm = q_gain.empty() ? nullptr : q_gain.data(),
                          .k_norm = k_gain.empty() ? nullptr : k_gain.data(),
                          .norm_dtype = DType::f32,
                          .norm_eps = q_gain.empty() ? 0.0f : file.number(name, "eps"),
                          .batch = sequence.view(),
                          .cache = cache.data(),
                          .q = q.data(),
                          .row_errors = errors.data(),
                          .error_tag = 1});
    EXPECT_EQ(std::accumulate(errors.begin(), errors.end(), 0u), 0u) << name;
    expect_same_bits(q, file.get<float>(name, "q"), name + ".q");
    std::vector<uint8_t> k_codes, v_codes, k_zero, v_zero;
    std::vector<uint16_t> k_scale, v_scale;
    for (int t = 0; t < tokens; ++t)
      for (int h = 0; h < kv_heads; ++h) {
        const KvSlotRef slot = slot_ref(kv, cache.data(), sequence.view(), 0, t, h);
        k_codes.insert(k_codes.end(), slot.k, slot.k + kv.padded_dim());
        v_codes.insert(v_codes.end(), slot.v, slot.v + kv.padded_dim());
        for (int g = 0; g < kv.num_key_groups(); ++g) {
          k_scale.push_back(slot.params[g].scale);
          k_zero.push_back(slot.params[g].zero);
        }
        v_scale.push_back(slot.params[kv.num_key_groups()].scale);
        v_zero.push_back(slot.params[kv.num_key_groups()].zero);
      }
    expect_same_bits(k_codes, file.get<uint8_t>(name, "k_codes"), name + ".k_codes");
    expect_same_bits(v_codes, file.get<uint8_t>(name, "v_codes"), name + ".v_codes");
    expect_same_bits(k_scale, file.get<uint16_t>(name, "k_scale"), name + ".k_scale");
    expect_same_bits(v_scale, file.get<uint16_t>(name, "v_scale"), name + ".v_scale");
    if (kv.bits != 4) continue;
    expect_same_bits(k_zero, file.get<uint8_t>(name, "k_zero"), name + ".k_zero");
    expect_same_bits(v_zero, file.get<uint8_t>(name, "v_zero"), name + ".v_zero");
  }
}

TEST(Contract, Attention) {
  const CaseFile file("attention");
  const auto backend = ref_backend();
  for (const std::string& name : file.names()) {
    const int tokens = file.dim(name, "q", 0), heads = file.dim(name, "q", 1), slots = file.dim(name, "k_codes", 0);
    const bool has_zeros = file.has(name, "k_zero");
    const KvShape kv{
        .num_kv_heads = file.dim(name, "k_codes", 1), .head_dim = file.dim(name, "q", 2), .bits = has_zeros ? 4 : 8};
    const OneSequence keys(0, slots), queries(file.integer(name, "first_pos"), tokens);
    const std::vector<int8_t> k_codes = file.get<int8_t>(name, "k_codes"), v_codes = file.get<int8_t>(name, "v_codes");
    const std::vector<uint16_t> k_scale = file.get<uint16_t>(name, "k_scale"),
                                v_scale = file.get<uint16_t>(name, "v_scale");
    const std::vector<uint8_t> k_zero =
        has_zeros ? file.get<uint8_t>(name, "k_zero") : std::vector<uint8_t>(k_scale.size());
    const std::vector<uint8_t> v_zero =
        has_zeros ? file.get<uint8_t>(name, "v_zero") : std::vector<uint8_t>(v_scale.size());
    std::vector<uint8_t> cache(backend->kv_block_bytes(kv) * keys.blocks.size(), 0xff);
    const int dim = kv.padded_dim(), groups = kv.num_key_groups();
    for (int t = 0; t < slots; ++t)
      for (int h = 0; h < kv.num_kv_heads; ++h) {
        const size_t row = static_cast<size_t>(t) * kv.num_kv_heads + h;
        const KvSlotRef slot = slot_ref(kv, cache.data(), keys.view(), 0, t, h);
        memcpy(slot.k, &k_codes[row * dim], static_cast<size_t>(dim));
        memcpy(slot.v, &v_codes[row * dim], static_cast<size_t>(dim));
        for (int g = 0; g < groups; ++g) slot.params[g] = {k_scale[row * groups + g], k_zero[row * groups + g], 0};
        slot.params[groups] = {v_scale[row], v_zero[row], 0};
      }
    const std::vector<float> q = file.get<float>(name, "q");
    std::vector<float> out(q.size());
    std::vector<uint16_t> out16(q.size());
    std::vector<uint32_t> errors(static_cast<size_t>(tokens), 0);
    OneSequence batch = queries;
    batch.blocks = keys.blocks;
    AttentionArgs args{.q = q.data(),
                       .batch = batch.view(),
                       .cache = cache.data(),
                       .out = out.data(),
                       .row_errors = errors.data(),
                       .error_tag = 1};
    const int window = file.has(name, "window") ? file.integer(name, "window") : 0;
    backend->attention({.num_heads = heads, .kv = kv, .out_dtype = DType::f32, .window = window}, args);
    args.out = out16.data();
    backend->attention({.num_heads = heads, .kv = kv, .out_dtype = DType::bf16, .window = window}, args);
    expect_same_bits(out, file.get<float>(name, "out_f32"), name + ".out_f32");
    expect_same_bits(out16, file.get<uint16_t>(name, "out"), name + ".out");
  }
}

// Writes a case's checkpoint as a model folder and runs it through the loader.
TEST(Contract, WholeModel) {
  const CaseFile file("whole_model");
  const auto backend = ref_backend();
  for (const std::string& name : file.names()) {
    const std::filesystem::path folder =
        std::filesystem::path(testing::TempDir()) / ("comet-contract-" + name + "-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder);
    std::map<std::string, OwnedTensor> tensors;
    const std::string prefix = name + ".tensors.";
    for (const auto& [full, view] : file.file().tensors())
      if (full.starts_with(prefix)) {
        const uint8_t* p = static_cast<const uint8_t*>(view.data);
        tensors[full.substr(prefix.size())] = {view.dtype, view.shape, {p, p + view.bytes()}};
      }
    write_safetensors(folder / "model.safetensors", tensors);
    const std::vector<char> config = file.get<char>(name, "config");
    std::ofstream(folder / "config.json").write(config.data(), static_cast<std::streamsize>(config.size()));

    const std::vector<int32_t> ids = file.get<int32_t>(name, "ids");
    const int length = static_cast<int>(ids.size());
    Model model(*backend, Checkpoint::open(folder), {.max_batch_tokens = length, .max_logit_rows = length});
    const OneSequence sequence(0, length);
    KvPool pool(*backend, model.config(), model.kv_format(), static_cast<int>(sequence.blocks.size()));
    HostBatch batch;
    batch.add_sequence(ids, 0, sequence.blocks);
    batch.logit_rows = sequence.positions;
    const ForwardResult result = model.forward(batch, pool);
    EXPECT_EQ(std::accumulate(result.row_errors.begin(), result.row_errors.end(), 0u), 0u) << name;
    expect_same_bits(result.logits, file.get<float>(name, "logits"), name + ".logits");
    std::filesystem::remove_all(folder);
  }
}

}  // namespace
}  // namespace comet::contract
