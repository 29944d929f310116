// SPDX-License-Identifier: Apache-2.0
// The tokens that may still be drawn, in the order (logit falling, id rising), without sorting more than is looked at.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace comet {

class Candidates {
 public:
  struct Place {
    int32_t token;
    uint64_t count;   // candidates up to and including it
    uint64_t weight;  // their weights
  };

  // Takes the tokens of row x with x >= floor and weight >= min_weight (>= 1), weights relative to max at
  // inv_temperature (softmax.h).
  void collect(std::span<const float> x, float floor, float max, double inv_temperature, uint64_t min_weight);

  uint64_t num_tokens() const { return num_tokens_; }
  uint64_t total_weight() const { return total_weight_; }
  // The candidate at index `rank` < num_tokens().
  Place at_rank(uint64_t rank);
  // The first candidate whose running sum of weights exceeds `weight` < total_weight().
  Place at_weight(uint64_t weight);

 private:
  // Buckets of falling logits; only one that is looked into gets sorted. The last holds those of too little weight.
  static constexpr int kBuckets = 2048;
  struct Bucket {
    uint32_t count;
    uint64_t weight;
  };
  struct Entry {
    float x;
    int32_t token;
    uint64_t weight;
  };
  template <typename Reached>
  Place first_where(Reached reached);

  // The first num_kept_ of each belong to the row: the tokens whose logit reached the floor, ids rising.
  size_t num_kept_ = 0;
  std::vector<int32_t> ids_;
  std::vector<float> x_;
  std::vector<uint64_t> weights_;
  std::vector<uint16_t> bucket_of_;
  std::vector<Bucket> buckets_;  // [kBuckets + 1]
  std::vector<Entry> sorted_;    // one bucket
  uint64_t num_tokens_ = 0, total_weight_ = 0;
};

}  // namespace comet
