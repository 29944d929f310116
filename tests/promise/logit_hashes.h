// SPDX-License-Identifier: Apache-2.0
// Hashes of logits: a row, all rows of a prompt computed in some order, and the kept ones of hashes.json.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/model.h"

namespace comet::promise {

uint64_t hash_row(std::span<const float> logits);
// Of all rows of a prompt: 16 hexadecimal digits.
std::string combine(const std::vector<uint64_t>& rows);

// The hash of each position's logits; ids go through the model in chunks of `chunk` tokens (0: whole).
// The model takes chunks of that size, and as many rows of logits.
std::vector<uint64_t> row_hashes(Model& model, std::span<const int32_t> ids, int chunk);

// All prompts side by side: each step has a chunk of every prompt that is not at its end, of sizes 1 to 64 that change
// from step to step. The model takes 64 tokens a prompt.
std::vector<std::vector<uint64_t>> batched_row_hashes(Model& model, const std::vector<std::vector<int32_t>>& prompts);

// tests/promise/hashes.json: name -> hash.
std::map<std::string, std::string> load_hashes();
void save_hashes(const std::map<std::string, std::string>& hashes);
std::string hash_name(const std::string& model, size_t prompt_length);

}  // namespace comet::promise
