// SPDX-License-Identifier: Apache-2.0
// Perplexity and latency, straight on the model.
#pragma once

#include "comet/comet.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace comet::api {

PerplexityResult measure_perplexity(Model& model, const Tokenizer& tokenizer, ThreadPool& pool,
                                    const PerplexityOptions& options,
                                    const std::function<void(int, int, double)>& progress);
LatencyResult measure_latency(Model& model, int prompt_tokens, int output_tokens);

// Characters [first, last) of UTF-8 text; last 0: to the end. Throws InvalidInput when the text is shorter.
std::string slice_characters(const std::string& text, int64_t first, int64_t last);

}  // namespace comet::api
