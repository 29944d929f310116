// SPDX-License-Identifier: Apache-2.0
// The installed C++ API of Comet: load a model, generate, quantize, evaluate.
//
// Errors are exceptions derived from std::runtime_error; is_user_error() tells what the caller gave wrong from what
// broke.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace comet::api {

// True when the exception is about what the user asked for (exit code 1, HTTP 4xx), false for a fault of the program.
bool is_user_error(const std::exception& error);

// Done and total layers.
using LayerProgress = std::function<void(int, int)>;

struct LoadOptions {
  std::string model;            // folder, or a name in the local Hugging Face cache
  std::string dummy_weights;    // instead of model: a config.json (or its folder) to fill with random weights
  int dummy_act_bits = 8;       // with dummy_weights: 8 = W4A8, 4 = W4A4, 16 = unquantized bf16
  std::string backend = "cpu";  // "cpu" or "ref"
  std::string isa;              // CPU: "avx2", "avx512vnni" force one; "": COMET_ISA, else the best there is
  int threads = 0;              // 0: what this process may use
  int kv_bits = 0;              // 4, 8, 16; 0: what the checkpoint says
  int max_model_len = 0;        // 0: the model's
  size_t kv_memory = 0;         // bytes of KV cache; 0: enough for max_batch_seqs sequences, within 1 GiB
  int max_batch_tokens = 512;
  int max_batch_seqs = 16;
  int max_chunk = 0;             // longest prefill chunk; 0: max_batch_tokens
  bool check_integrity = false;  // of the engine's bookkeeping, after every step (for tests: slow)
  bool prefix_cache = true;      // keep the KV of prompts and answers for later requests that begin alike
  std::string chat_template;     // file; "": the model's own
};

struct ModelInfo {
  std::string folder, architecture, scheme, kv, backend;  // scheme: "W4A8", "W4Ax", "bf16"
  size_t weight_bytes = 0, kv_bytes = 0;
  int num_layers = 0, vocab_size = 0, context = 0, threads = 0;
  bool has_chat_template = false;
};

// Bytes that loading will take, known before it starts.
struct MemoryEstimate {
  size_t weights = 0, kv = 0, workspace = 0, available = 0;
};

struct Sampling {
  double temperature = 1.0, top_p = 1.0, min_p = 0.0;
  int top_k = 0;
  double repetition_penalty = 1.0, presence_penalty = 0.0, frequency_penalty = 0.0;
  std::map<int32_t, float> logit_bias;
  std::optional<uint64_t> seed;
  std::optional<int> max_tokens;
  int min_tokens = 0, n = 1;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  std::optional<int> logprobs;
};

// One of these three.
struct Prompt {
  std::string text;
  std::vector<int32_t> ids;
  std::string messages_json;  // [{"role": "user", "content": "..."}, ...]
};

struct Delta {
  int choice = 0;
  std::string text;
  std::string finish;  // "": more to come; "stop", "length", "cancelled", "error"
  std::string error;
  int num_prompt = 0, num_output = 0;  // with the last delta
  int num_cached = 0;                  // prompt tokens that were not computed again, with the last delta
  std::string logprobs_json;           // when asked for: [{"id", "token", "logprob", "top": [[id, logprob], ..]}, ..]
};

// An answer being made. One thread pulls; destruction cancels.
class Answer {
 public:
  virtual ~Answer() = default;
  virtual std::optional<Delta> next() = 0;  // waits; none after the last
  virtual void cancel() = 0;
  virtual std::vector<int32_t> output_ids(int choice) const = 0;
};

struct PerplexityOptions {
  std::string text;        // the text itself
  int64_t first_char = 0;  // use characters [first_char, last_char) of it; last_char 0: to the end
  int64_t last_char = 0;
  int context = 1024, windows = 0;  // tokens in a window; most windows, 0: all
};

struct PerplexityResult {
  double perplexity = 0.0, mean_nll = 0.0;
  int windows = 0, context = 0;
  double seconds = 0.0;
};

struct LatencyResult {
  int prompt_tokens = 0, output_tokens = 0;
  double prefill_seconds = 0.0, decode_seconds = 0.0;
};

class LanguageModel {
 public:
  static std::unique_ptr<LanguageModel> load(const LoadOptions& options, const LayerProgress& progress = {});
  virtual ~LanguageModel() = default;

  virtual const ModelInfo& info() const = 0;
  virtual std::vector<int32_t> tokenize(const std::string& text) const = 0;
  virtual std::string detokenize(const std::vector<int32_t>& ids) const = 0;
  virtual std::unique_ptr<Answer> submit(const Prompt& prompt, const Sampling& sampling) = 0;

  // Mean over windows of a window's mean negative log-likelihood; no BOS, windows share nothing. Not while answers are
  // made.
  virtual PerplexityResult perplexity(const PerplexityOptions& options,
                                      const std::function<void(int, int, double)>& progress = {}) = 0;
  // One sequence of random tokens: prefill of prompt_tokens, then output_tokens decoded. Not while answers are made.
  virtual LatencyResult latency(int prompt_tokens, int output_tokens) = 0;
};

MemoryEstimate estimate_memory(const LoadOptions& options);

struct QuantizeOptions {
  std::string model, output;
  std::string recipe = "fmpq";                   // "rtn", "fmpq", or a JSON file
  std::map<std::string, std::string> overrides;  // recipe keys, as --set KEY=VALUE gives them
  std::string calibration_text;                  // the text itself; needed by recipes that calibrate
  int calibration_windows = 0;                   // 0: the recipe's
  int calibration_context = 1024;
  std::string isa;
  int threads = 0;
  bool dry_run = false;  // check the model, the recipe and the output's place; report sizes; write nothing
};

struct SiteReport {
  int layer = 0;
  std::string site;
  int num_int8_groups = 0, num_groups = 0, bits2 = 0;
  float clip1 = 1.0f, clip2 = 1.0f;
  double output_error = 0.0;  // relative to the unquantized output, on calibration data; 0 where not measured
};

struct QuantizeReport {
  std::vector<SiteReport> sites;
  double int4_mac_share = 0.0;  // of the decoder layers' multiply-accumulates
  size_t input_bytes = 0, output_bytes = 0;
  double seconds = 0.0;
  std::string recipe_json;
};

QuantizeReport quantize(const QuantizeOptions& options, const LayerProgress& progress = {});

// JSON texts: what a model folder holds; what this machine offers.
std::string inspect(const std::string& model, bool with_tensors);
std::string environment();

// A model folder for a folder or a name in the local Hugging Face cache; otherwise the error has the download line.
std::string resolve_model(const std::string& name);

}  // namespace comet::api
