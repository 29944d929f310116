// SPDX-License-Identifier: Apache-2.0
// Changes of basis that are folded into the float weights before they are quantized.
#pragma once

#include <cstdint>
#include <vector>

namespace comet {

// V's Hadamard over head_dim on the rows of Wv [heads * d, k] (or its bias, k = 1).
void rotate_value_rows(std::vector<float>& wv, int head_dim, int k);
// Its inverse on the columns of Wo [n, heads * d].
void rotate_output_columns(std::vector<float>& wo, int head_dim);

// Rows of w [n, k] in a new order: row i of the result is row order[i].
void permute_rows(std::vector<float>& w, const std::vector<int32_t>& order, int k);
void permute_columns(std::vector<float>& w, const std::vector<int32_t>& order);

// Factors lambda [kv_heads, d] for K, equal in each RoPE pair, that even out K's channels: K / lambda, q * lambda.
// keys: K before RoPE [rows, kv_heads * d]; RoPE keeps a pair's norm.
std::vector<float> key_smoothing(const std::vector<float>& keys, int num_kv_heads, int head_dim);
// w [heads * d, k]: rows times (inverse: divided by) the factor of their KV head.
void scale_rows(std::vector<float>& w, const std::vector<float>& lambda, int num_heads, int num_kv_heads, int head_dim,
                int k, bool inverse);

}  // namespace comet
