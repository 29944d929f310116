// SPDX-License-Identifier: Apache-2.0
#include "api/evaluate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace comet::api {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::vector<int32_t> all_blocks(const KvPool& pool) {
  std::vector<int32_t> blocks(static_cast<size_t>(pool.num_blocks()));
  std::iota(blocks.begin(), blocks.end(), 0);
  return blocks;
}

double negative_log_likelihood(const float* logits, int vocab, int32_t target) {
  const double top = static_cast<double>(*std::max_element(logits, logits + vocab));
  double sum = 0.0;
  for (int i = 0; i < vocab; ++i) sum += std::exp(static_cast<double>(logits[i]) - top);
  return std::log(sum) + top - static_cast<double>(logits[target]);
}

void check_errors(const ForwardResult& result) {
  for (const uint32_t tag : result.row_errors)
    if (tag != 0) throw_invalid("{}", describe_error_tag(tag));
}

// Sum of the negative log-likelihoods of ids[1..] given what is before them.
double window_nll(Model& model, KvPool& pool, ThreadPool& threads, std::span<const int32_t> ids) {
  const std::vector<int32_t> blocks = all_blocks(pool);
  const int chunk = std::min(model.options().max_batch_tokens, model.options().max_logit_rows);
  const int vocab = model.config().vocab_size, length = static_cast<int>(ids.size());
  double sum = 0.0;
  for (int first = 0; first < length; first += chunk) {
    const int count = std::min(chunk, length - first);
    HostBatch batch;
    batch.add_sequence(ids.subspan(static_cast<size_t>(first), static_cast<size_t>(count)), first, blocks);
    const int rows = std::min(count, length - 1 - first);  // the last token predicts nothing here
    for (int i = 0; i < rows; ++i) batch.logit_rows.push_back(i);
    const ForwardResult result = model.forward(batch, pool);
    check_errors(result);
    std::vector<double> nll(static_cast<size_t>(rows));
    threads.parallel_for(rows, 8, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i)
        nll[static_cast<size_t>(i)] = negative_log_likelihood(&result.logits[static_cast<size_t>(i * vocab)], vocab,
                                                              ids[static_cast<size_t>(first + i + 1)]);
    });
    sum = std::accumulate(nll.begin(), nll.end(), sum);
  }
  return sum;
}

}  // namespace

std::string slice_characters(const std::string& text, int64_t first, int64_t last) {
  int64_t index = 0;
  size_t begin = std::string::npos, end = text.size();
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && (static_cast<unsigned char>(text[i]) & 0xc0) == 0x80) continue;  // inside a character
    if (index == first) begin = i;
    if (last > 0 && index == last) {
      end = i;
      break;
    }
    ++index;
  }
  if (begin == std::string::npos || (last > 0 && index < last))
    throw_invalid("the text has {} characters, {}..{} were asked for", index - 1, first, last);
  return text.substr(begin, end - begin);
}

PerplexityResult measure_perplexity(Model& model, const Tokenizer& tokenizer, ThreadPool& threads,
                                    const PerplexityOptions& options,
                                    const std::function<void(int, int, double)>& progress) {
  if (options.context < 2 || options.context > model.options().max_positions)
    throw_invalid("a context of {} tokens is not possible: expected 2..{}", options.context,
                  model.options().max_positions);
  const std::vector<int32_t> ids =
      tokenizer.encode(slice_characters(options.text, options.first_char, options.last_char), false);
  int windows = static_cast<int>(ids.size()) / options.context;
  if (options.windows > 0) windows = std::min(windows, options.windows);
  if (windows == 0) throw_invalid("the text has {} tokens, one window needs {}", ids.size(), options.context);
  KvPool pool(model.backend(), model.config(), model.kv_format(), (options.context + kKvBlock - 1) / kKvBlock);
  const auto start = std::chrono::steady_clock::now();
  double sum = 0.0;
  for (int w = 0; w < windows; ++w) {
    const std::span<const int32_t> window =
        std::span(ids).subspan(static_cast<size_t>(w) * options.context, static_cast<size_t>(options.context));
    sum += window_nll(model, pool, threads, window) / (options.context - 1);
    if (progress) progress(w + 1, windows, std::exp(sum / (w + 1)));
  }
  return {.perplexity = std::exp(sum / windows),
          .mean_nll = sum / windows,
          .windows = windows,
          .context = options.context,
          .seconds = seconds_since(start)};
}

LatencyResult measure_latency(Model& model, int prompt_tokens, int output_tokens) {
  const int total = prompt_tokens + output_tokens;
  if (prompt_tokens < 1 || output_tokens < 0 || total > model.options().max_positions)
    throw_invalid("{} prompt and {} output tokens do not fit the context of {}", prompt_tokens, output_tokens,
                  model.options().max_positions);
  KvPool pool(model.backend(), model.config(), model.kv_format(), (total + kKvBlock - 1) / kKvBlock);
  const std::vector<int32_t> blocks = all_blocks(pool);
  std::vector<int32_t> ids(static_cast<size_t>(total));
  for (int i = 0; i < total; ++i)
    ids[static_cast<size_t>(i)] = static_cast<int32_t>((static_cast<uint32_t>(i) * 2654435761u >> 8) %
                                                       static_cast<uint32_t>(model.config().vocab_size));
  auto run = [&](int first, int count) {
    HostBatch batch;
    batch.add_sequence(std::span(ids).subspan(static_cast<size_t>(first), static_cast<size_t>(count)), first, blocks);
    batch.logit_rows = {count - 1};
    check_errors(model.forward(batch, pool));
  };
  run(0, std::min(prompt_tokens, model.options().max_batch_tokens));  // warm-up: pages, caches, clocks
  LatencyResult result{.prompt_tokens = prompt_tokens, .output_tokens = output_tokens};
  auto start = std::chrono::steady_clock::now();
  for (int first = 0; first < prompt_tokens; first += model.options().max_batch_tokens)
    run(first, std::min(model.options().max_batch_tokens, prompt_tokens - first));
  result.prefill_seconds = seconds_since(start);
  start = std::chrono::steady_clock::now();
  for (int i = 0; i < output_tokens; ++i) run(prompt_tokens + i, 1);
  result.decode_seconds = seconds_since(start);
  return result;
}

}  // namespace comet::api
