// SPDX-License-Identifier: Apache-2.0
#include "promise/logit_hashes.h"

#define XXH_INLINE_ALL
#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>

#include "base/mapped_file.h"

namespace comet::promise {
namespace {

const std::filesystem::path kFile = std::filesystem::path(COMET_SOURCE_DIR) / "tests/promise/hashes.json";

// The kv_blocks of prompt `index` of `count`: every count-th one, last first, so that tables matter.
std::vector<int32_t> scattered_blocks(int length, int index, int count) {
  std::vector<int32_t> blocks;
  for (int i = (length + kKvBlock - 1) / kKvBlock - 1; i >= 0; --i) blocks.push_back(i * count + index);
  return blocks;
}

void check_no_errors(const ForwardResult& result) {
  for (const uint32_t tag : result.row_errors)
    if (tag != 0) ADD_FAILURE() << describe_error_tag(tag);
}

}  // namespace

uint64_t hash_row(std::span<const float> logits) { return XXH64(logits.data(), logits.size_bytes(), 0); }

std::string combine(const std::vector<uint64_t>& rows) {
  return fmt::format("{:016x}", XXH64(rows.data(), rows.size() * sizeof(uint64_t), 0));
}

std::vector<uint64_t> row_hashes(Model& model, std::span<const int32_t> ids, int chunk) {
  const int length = static_cast<int>(ids.size()), vocab = model.config().vocab_size;
  if (chunk == 0) chunk = length;
  const std::vector<int32_t> blocks = scattered_blocks(length, 0, 1);
  KvPool pool(model.backend(), model.config(), model.kv_format(), static_cast<int>(blocks.size()));
  std::vector<uint64_t> rows;
  for (int first = 0; first < length; first += chunk) {
    const int count = std::min(chunk, length - first);
    HostBatch batch;
    batch.add_sequence(ids.subspan(static_cast<size_t>(first), static_cast<size_t>(count)), first, blocks);
    for (int i = 0; i < count; ++i) batch.logit_rows.push_back(i);
    const ForwardResult result = model.forward(batch, pool);
    check_no_errors(result);
    for (int i = 0; i < count; ++i)
      rows.push_back(
          hash_row(std::span(result.logits).subspan(static_cast<size_t>(i) * vocab, static_cast<size_t>(vocab))));
  }
  return rows;
}

std::vector<std::vector<uint64_t>> batched_row_hashes(Model& model, const std::vector<std::vector<int32_t>>& prompts) {
  const int count = static_cast<int>(prompts.size()), vocab = model.config().vocab_size;
  size_t longest = 0;
  for (const std::vector<int32_t>& p : prompts) longest = std::max(longest, p.size());
  KvPool pool(model.backend(), model.config(), model.kv_format(),
              static_cast<int>((longest + kKvBlock - 1) / kKvBlock) * count);
  std::vector<std::vector<uint64_t>> rows(prompts.size());
  std::mt19937 random(3);
  for (bool is_done = false; !is_done;) {
    HostBatch batch;
    std::vector<size_t> owners;
    for (size_t p = 0; p < prompts.size(); ++p) {
      const size_t first = rows[p].size();
      if (first == prompts[p].size()) continue;
      const size_t size = std::min<size_t>(prompts[p].size() - first, random() % 3 == 0 ? 1 : 1 + random() % 64);
      for (size_t i = 0; i < size; ++i) {
        batch.logit_rows.push_back(batch.num_tokens() + static_cast<int>(i));
        owners.push_back(p);
      }
      batch.add_sequence(std::span(prompts[p]).subspan(first, size), static_cast<int>(first),
                         scattered_blocks(static_cast<int>(prompts[p].size()), static_cast<int>(p), count));
    }
    is_done = owners.empty();
    if (is_done) break;
    const ForwardResult result = model.forward(batch, pool);
    check_no_errors(result);
    for (size_t i = 0; i < owners.size(); ++i)
      rows[owners[i]].push_back(
          hash_row(std::span(result.logits).subspan(i * static_cast<size_t>(vocab), static_cast<size_t>(vocab))));
  }
  return rows;
}

std::map<std::string, std::string> load_hashes() {
  return nlohmann::json::parse(read_file(kFile)).get<std::map<std::string, std::string>>();
}

void save_hashes(const std::map<std::string, std::string>& hashes) {
  write_file_atomically(kFile, nlohmann::json(hashes).dump(2) + "\n");
}

std::string hash_name(const std::string& model, size_t prompt_length) {
  return fmt::format("{}/{:04}", model, prompt_length);
}

}  // namespace comet::promise
