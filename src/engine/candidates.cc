// SPDX-License-Identifier: Apache-2.0
#include "engine/candidates.h"

#include <algorithm>

#include "base/check.h"
#include "engine/softmax.h"

namespace comet {

void Candidates::collect(std::span<const float> x, float floor, float max, double inv_temperature,
                         uint64_t min_weight) {
  COMET_CHECK(min_weight >= 1 && x.size() <= kMaxVocab, "min_weight {}, {} logits", min_weight, x.size());
  ids_.resize(x.size());
  x_.resize(x.size());
  size_t n = 0;
  for (size_t i = 0; i < x.size(); ++i) {  // without a branch: what is kept follows no pattern
    ids_[n] = static_cast<int32_t>(i);
    x_[n] = x[i];
    n += x[i] >= floor ? 1 : 0;
  }
  COMET_CHECK(n > 0, "no logit reaches {}", floor);
  const std::span<const float> kept(x_.data(), n);
  weights_.resize(x.size());
  softmax_weights(kept, max, inv_temperature, std::span(weights_).first(n));

  const double range = static_cast<double>(max) - static_cast<double>(row_min(kept));
  const double buckets_per_logit = range > 0 ? kBuckets / range : 0.0;
  buckets_.assign(kBuckets + 1, {0, 0});
  bucket_of_.resize(x.size());
  num_tokens_ = 0;
  total_weight_ = 0;
  for (size_t i = 0; i < n; ++i) {
    // Subtraction, product and truncation are all monotonic, so the buckets follow the order of the logits.
    const double at = (static_cast<double>(max) - static_cast<double>(kept[i])) * buckets_per_logit;
    const int bucket = weights_[i] >= min_weight ? std::min(static_cast<int>(at), kBuckets - 1) : kBuckets;
    bucket_of_[i] = static_cast<uint16_t>(bucket);
    buckets_[static_cast<size_t>(bucket)].count += 1;
    buckets_[static_cast<size_t>(bucket)].weight += weights_[i];
  }
  num_kept_ = n;
  for (int bucket = 0; bucket < kBuckets; ++bucket) {
    num_tokens_ += buckets_[static_cast<size_t>(bucket)].count;
    total_weight_ += buckets_[static_cast<size_t>(bucket)].weight;
  }
}

Candidates::Place Candidates::at_rank(uint64_t rank) {
  COMET_CHECK(rank < num_tokens_, "rank {} of {}", rank, num_tokens_);
  return first_where([rank](uint64_t count, uint64_t) { return count > rank; });
}

Candidates::Place Candidates::at_weight(uint64_t weight) {
  COMET_CHECK(weight < total_weight_, "weight {} of {}", weight, total_weight_);
  return first_where([weight](uint64_t, uint64_t sum) { return sum > weight; });
}

template <typename Reached>
Candidates::Place Candidates::first_where(Reached reached) {
  uint64_t count = 0, weight = 0;
  size_t bucket = 0;
  while (!reached(count + buckets_[bucket].count, weight + buckets_[bucket].weight)) {
    count += buckets_[bucket].count;
    weight += buckets_[bucket].weight;
    ++bucket;
  }
  sorted_.clear();
  for (size_t i = 0; i < num_kept_; ++i)
    if (bucket_of_[i] == bucket) sorted_.push_back({x_[i], ids_[i], weights_[i]});
  std::sort(sorted_.begin(), sorted_.end(),
            [](const Entry& a, const Entry& b) { return a.x > b.x || (a.x == b.x && a.token < b.token); });
  for (const Entry& entry : sorted_) {
    count += 1;
    weight += entry.weight;
    if (reached(count, weight)) return {entry.token, count, weight};
  }
  COMET_CHECK(false, "bucket {} does not hold what it counted", bucket);
  return {};
}

}  // namespace comet
