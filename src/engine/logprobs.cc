// SPDX-License-Identifier: Apache-2.0
#include "engine/logprobs.h"

#include <algorithm>

#include "base/check.h"
#include "engine/softmax.h"

namespace comet {

TokenLogprobs token_logprobs(std::span<const float> logits, int32_t token, int num_top) {
  COMET_CHECK(token >= 0 && static_cast<size_t>(token) < logits.size(), "token {} of {}", token, logits.size());
  COMET_CHECK(num_top >= 0, "num_top = {}", num_top);
  const float max = row_max(logits);
  const double sum = static_cast<double>(sum_softmax_weights(logits, max, 1.0));
  const double log_sum = stated_log(sum / static_cast<double>(kWeightOne));
  const auto logprob = [&](int32_t id) {
    return static_cast<float>((static_cast<double>(logits[static_cast<size_t>(id)]) - max) - log_sum);
  };

  TokenLogprobs out{logprob(token), {}};
  if (num_top == 0) return out;
  const float bound = kth_largest_bound(logits, num_top);
  std::vector<int32_t> ids;
  for (size_t id = 0; id < logits.size(); ++id)
    if (logits[id] >= bound) ids.push_back(static_cast<int32_t>(id));
  const size_t count = std::min(ids.size(), static_cast<size_t>(num_top));
  std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count), ids.end(),
                    [&](int32_t a, int32_t b) {
                      const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
                      return x > y || (x == y && a < b);
                    });
  for (size_t i = 0; i < count; ++i) out.top.push_back({ids[i], logprob(ids[i])});
  return out;
}

}  // namespace comet
