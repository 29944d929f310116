// SPDX-License-Identifier: Apache-2.0
// The integer GEMM of a GPU beside cuBLAS, and what of its roofline it reaches.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace comet::api {

struct BenchGemmOptions {
  std::vector<std::string> shapes = {"llama3"};  // families, names or NxK
  std::vector<int> tokens = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};
  std::vector<int> shares4 = {0, 75, 100};  // percent of the groups of activations that are 4-bit
  bool baselines = true;                    // cuBLAS fp16, cuBLASLt fp8 and int8
  bool bf16 = false;                        // cuBLAS bf16, too
  bool fused = true;                        // with RMSNorm in front: ours + quantize_act, theirs + cuBLAS fp16
  bool check = true;                        // outputs against the formula
  bool sweep = false;                       // time every plan, too
  bool quantize = false;                    // quantize_act alone instead
  bool lm_head = false;                     // gemm_w8a8 on lm_head's shapes instead
  bool ablation = false;                    // the GEMM with one thing taken out at a time instead; comet-bench-gemm
  int rounds = 7;                           // replays of each graph; medians
  int repeat_checks = 1;
  double replay_us = 2500.0;    // length of a replay
  std::string cublas_folder{};  // where libcublas.so.13 lies; "": the loader finds it

  std::string json{};               // written after every point, always whole
  bool resume = false;              // points that `json` holds are not measured again
  std::string plot{};               // SVG
  std::vector<std::string> from{};  // tables and plot of these files; nothing is measured
};

struct BenchGemmResult {
  std::string tables;
  int64_t num_wrong = 0;  // outputs
  bool is_interrupted = false;
};

// Measures every point of shapes x shares4 x tokens, and reports it in a line or more; the first SIGINT or SIGTERM ends
// it behind the point (a second one the program). Throws for options, files and machines that will not do.
BenchGemmResult bench_gemm(const BenchGemmOptions& options, const std::function<void(const std::string&)>& report);

}  // namespace comet::api
