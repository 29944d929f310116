// SPDX-License-Identifier: Apache-2.0
// Times rope_append and attention of the CPU backend beside the machine's read bandwidth and int8 rate.
//
//   cpu_attention [--threads N] [--isa avx2|avx512vnni] [--model NAME] [--cpu-time] [--json]
//
// Decode walks as many layers' caches as exceed the last-level cache, as weights push them out between two tokens.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "cpu_ceilings.h"
#include "kernels/backend.h"
#include "kernels/cpu/attention_cpu.h"

namespace comet {
namespace {

struct Case {
  const char* model;
  int num_heads, num_kv_heads, head_dim, num_layers;
  int bits;
  int batch;    // sequences
  int tokens;   // of each sequence in this step: 1 is decode
  int context;  // keys of a sequence when the step is done
};

constexpr Case kCases[] = {
    {"tinyllama", 32, 4, 64, 22, 4, 1, 512, 512},  {"tinyllama", 32, 4, 64, 22, 4, 1, 2048, 2048},
    {"tinyllama", 32, 4, 64, 22, 4, 1, 1, 128},    {"tinyllama", 32, 4, 64, 22, 4, 1, 1, 2048},
    {"tinyllama", 32, 4, 64, 22, 4, 1, 1, 8192},   {"tinyllama", 32, 4, 64, 22, 4, 8, 1, 512},
    {"tinyllama", 32, 4, 64, 22, 8, 1, 512, 512},  {"tinyllama", 32, 4, 64, 22, 8, 1, 1, 2048},
    {"tinyllama", 32, 4, 64, 22, 16, 1, 512, 512}, {"tinyllama", 32, 4, 64, 22, 16, 1, 1, 2048},
    {"llama-8b", 32, 8, 128, 32, 4, 1, 512, 512},  {"llama-8b", 32, 8, 128, 32, 4, 1, 1, 2048},
    {"qwen-0.5b", 14, 2, 64, 24, 4, 1, 1, 2048},   {"llama-7b", 32, 32, 128, 32, 4, 1, 1, 2048},
};

bool g_uses_cpu_time = false;

double now() {
  timespec t;
  clock_gettime(g_uses_cpu_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x[x.size() / 2];
}

struct Times {
  double append_s, attention_s;  // of one layer
};

Times run_case(const Case& c, Isa isa, ThreadPool& pool, Backend& backend) {
  const KvShape kv{c.num_kv_heads, c.head_dim, c.bits};
  const int blocks = (c.context + kKvBlock - 1) / kKvBlock, tokens = c.batch * c.tokens;
  const size_t layer_bytes = kv_block_bytes_cpu(kv) * static_cast<size_t>(blocks * c.batch);
  const int layers = c.tokens > 1 ? 1 : static_cast<int>(std::min<size_t>(200, 1 + (size_t{192} << 20) / layer_bytes));
  DeviceBuffer cache(backend, layer_bytes * static_cast<size_t>(layers));
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const int width = (c.num_heads + 2 * c.num_kv_heads) * c.head_dim, half = c.head_dim / 2;
  std::vector<bf16> qkv(static_cast<size_t>(std::max(tokens, kKvBlock) * width));
  for (bf16& x : qkv) x = to_bf16(normal(random));
  std::vector<float> cos(static_cast<size_t>(c.context * half)), sin(cos.size());
  for (size_t i = 0; i < cos.size(); ++i)
    cos[i] = std::cos(static_cast<float>(i)), sin[i] = std::sin(static_cast<float>(i));
  std::vector<int32_t> seqs, positions, first{0}, tables(static_cast<size_t>(blocks * c.batch));
  for (size_t i = 0; i < tables.size(); ++i) tables[i] = static_cast<int32_t>(i);
  std::shuffle(tables.begin(), tables.end(), random);
  for (int s = 0; s < c.batch; ++s) {
    for (int t = c.context - c.tokens; t < c.context; ++t) seqs.push_back(s), positions.push_back(t);
    first.push_back(static_cast<int32_t>(seqs.size()));
  }
  std::vector<float> q(static_cast<size_t>(std::max(tokens, kKvBlock) * c.num_heads * c.head_dim));
  std::vector<bf16> out(q.size());
  std::vector<uint32_t> errors(static_cast<size_t>(std::max(tokens, kKvBlock)));
  const BatchView batch{tokens, c.batch, seqs.data(), positions.data(), first.data(), tables.data(), blocks};
  RopeAppendArgs append;
  append.qkv = qkv.data();
  append.cos = cos.data();
  append.sin = sin.data();
  append.batch = batch;
  append.q = q.data();
  append.row_errors = errors.data();
  append.error_tag = 1;
  const RopeAppendProblem append_problem{c.num_heads, kv, is_power_of_two(c.head_dim)};
  AttentionArgs attend;
  attend.q = q.data();
  attend.batch = batch;
  attend.out = out.data();
  attend.row_errors = errors.data();
  attend.error_tag = 2;
  const AttentionProblem problem{c.num_heads, kv, DType::bf16};

  // Fill every layer's cache a kv_block at a time, all with the same values.
  for (int layer = 0; layer < layers; ++layer)
    for (int s = 0; s < c.batch; ++s)
      for (int b = 0; b < blocks; ++b) {
        std::vector<int32_t> block_seqs(kKvBlock, 0), block_positions;
        for (int i = 0; i < kKvBlock && b * kKvBlock + i < c.context; ++i) block_positions.push_back(b * kKvBlock + i);
        const int32_t block_first[2] = {0, static_cast<int32_t>(block_positions.size())};
        RopeAppendArgs fill = append;
        fill.cache = cache.as<char>() + layer_bytes * static_cast<size_t>(layer);
        fill.batch = {
            block_first[1], 1, block_seqs.data(), block_positions.data(), block_first, tables.data() + s * blocks,
            blocks};
        rope_append_cpu(isa, append_problem, fill, pool);
      }
  std::vector<double> append_s, attention_s;
  const double stop = now() + 1.0;
  for (int repeat = 0; repeat < 3 || now() < stop; ++repeat) {
    double append_sum = 0.0, attention_sum = 0.0;
    for (int layer = 0; layer < layers; ++layer) {
      append.cache = cache.as<char>() + layer_bytes * static_cast<size_t>(layer);
      attend.cache = append.cache;
      const double start = now();
      rope_append_cpu(isa, append_problem, append, pool);
      const double middle = now();
      attention_cpu(isa, problem, attend, pool);
      attention_sum += now() - middle;
      append_sum += middle - start;
    }
    append_s.push_back(append_sum / layers);
    attention_s.push_back(attention_sum / layers);
  }
  for (uint32_t e : errors) COMET_CHECK(e == 0, "a row reported {}", e);
  return {median(append_s), median(attention_s)};
}

int run(int argc, char** argv) {
  CLI::App app("Times the CPU backend's rope_append and attention");
  int threads = 0;
  std::string isa_name, only;
  bool json = false;
  app.add_option("--threads", threads, "threads (default: all that may run)");
  app.add_option("--isa", isa_name, "one ISA (default: all this machine has)");
  app.add_option("--model", only, "cases of one model only");
  app.add_flag("--cpu-time", g_uses_cpu_time,
               "count CPU time of one thread, for a machine that is busy with other work");
  app.add_flag("--json", json, "the last line is one JSON object");
  CLI11_PARSE(app, argc, argv);
  ThreadPool pool(g_uses_cpu_time ? 1 : threads);
  const std::unique_ptr<Backend> backend = cpu_backend("", std::make_shared<ThreadPool>(1));
  const double bandwidth = measure_read_bandwidth(pool);
  nlohmann::json report = {
      {"threads", pool.num_threads()}, {"read_gb_per_s", bandwidth / 1e9}, {"cases", nlohmann::json::array()}};
  std::printf("%d threads, reads %.1f GB/s\n", pool.num_threads(), bandwidth / 1e9);
  for (Isa isa : kAllIsas) {
    if (!detect_isas().has(isa)) {
      std::printf("%s: not on this machine, skipped\n", to_string(isa));
      continue;
    }
    if (!isa_name.empty() && isa_name != to_string(isa)) continue;
    const double peak = 2.0 * measure_int8_macs(isa, pool);
    std::printf("%s: int8 %.2f TOPS\n%-10s %4s %5s %6s %7s | %10s %10s | %9s %6s | %8s %6s\n", to_string(isa),
                peak / 1e12, "model", "kv", "batch", "tokens", "context", "append us", "attend us", "ms all", "GB/s",
                "% read", "% int8");
    for (const Case& c : kCases) {
      if (!only.empty() && only != c.model) continue;
      const Times t = run_case(c, isa, pool, *backend);
      const KvShape kv{c.num_kv_heads, c.head_dim, c.bits};
      double pairs = 0.0;  // (query row, key) of all heads
      for (int i = c.context - c.tokens; i < c.context; ++i)
        pairs += static_cast<double>(i + 1) * c.num_heads * c.batch;
      const double ops = pairs * c.head_dim * 4.0;
      const double bytes = static_cast<double>(kv_block_bytes_cpu(kv)) / kKvBlock * c.context * c.batch;
      const double all_ms = (t.append_s + t.attention_s) * c.num_layers * 1e3;
      std::printf("%-10s %4d %5d %6d %7d | %10.1f %10.1f | %9.2f %6.1f | %7.1f%% %5.1f%%\n", c.model, c.bits, c.batch,
                  c.tokens, c.context, t.append_s * 1e6, t.attention_s * 1e6, all_ms, bytes / t.attention_s / 1e9,
                  100.0 * bytes / t.attention_s / bandwidth, 100.0 * ops / t.attention_s / peak);
      std::fflush(stdout);
      report["cases"].push_back({{"isa", to_string(isa)},
                                 {"model", c.model},
                                 {"kv_bits", c.bits},
                                 {"batch", c.batch},
                                 {"tokens", c.tokens},
                                 {"context", c.context},
                                 {"append_us", t.append_s * 1e6},
                                 {"attention_us", t.attention_s * 1e6},
                                 {"all_layers_ms", all_ms},
                                 {"cache_gb_per_s", bytes / t.attention_s / 1e9},
                                 {"fraction_of_read", bytes / t.attention_s / bandwidth},
                                 {"int8_tops", peak / 1e12},
                                 {"fraction_of_int8", ops / t.attention_s / peak}});
    }
  }
  if (json) std::printf("%s\n", report.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace comet

int main(int argc, char** argv) {
  try {
    return comet::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cpu_attention: %s\n", error.what());
    return 1;
  }
}
