// SPDX-License-Identifier: Apache-2.0
// Times the CPU backend's linear layers at one model's shapes, each as a fraction of what the machine could do.
//
//   cpu_kernels [--threads N] [--isa avx2|avx512vnni] [--only gemm_w4ax] [--seconds S] [--cpu-time] [--json]
//
// The ceiling of a case is the larger of two times: its weights at the read bandwidth, its operations at the peak of
// the instruction that does them. Weights rotate through more memory than the caches hold, as layers do.
#include <immintrin.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "cpu_ceilings.h"
#include "kernels/backend.h"

namespace comet {
namespace {

struct Shape {
  const char* name;
  int n, k;
};

// TinyLlama-1.1B.
constexpr Shape kLinears[] = {{"qkv", 2560, 2048}, {"o", 2048, 2048}, {"gate_up", 11264, 2048}, {"down", 2048, 5632}};
constexpr Shape kHead = {"lm_head", 32000, 2048};
constexpr int kTokens[] = {1, 2, 4, 8, 16, 64, 512};
constexpr size_t kRotateBytes = size_t{192} << 20;

struct Options {
  int threads = 0;
  std::string isa, only;
  double seconds = 0.3;
  bool uses_cpu_time = false, json = false;
};

struct Ceilings {
  double read, int8_ops, fp32_ops;  // per second
};

double now(bool is_cpu_time) {
  timespec t;
  clock_gettime(is_cpu_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Times {
  double best, median;
};

constexpr int kFmaSteps = 100'000;  // of 12 independent chains

__attribute__((target("avx512f"))) void multiply_add_avx512() {
  __m512 sum[12], a = _mm512_set1_ps(0.5f);
  for (__m512& x : sum) x = a;
  for (int step = 0; step < kFmaSteps; ++step)
    for (__m512& x : sum) {
      x = _mm512_fmadd_ps(x, a, a);
      asm volatile("" : "+v"(x));
    }
}

__attribute__((target("avx2,fma"))) void multiply_add_avx2() {
  __m256 sum[12], a = _mm256_set1_ps(0.5f);
  for (__m256& x : sum) x = a;
  for (int step = 0; step < kFmaSteps; ++step)
    for (__m256& x : sum) {
      x = _mm256_fmadd_ps(x, a, a);
      asm volatile("" : "+v"(x));
    }
}

// Repeats body(round) for a while.
template <typename Body>
Times time(const Options& options, Body body) {
  std::vector<double> s;
  const double stop = now(false) + options.seconds;
  for (int round = 0; round < 5 || now(false) < stop; ++round) {
    const double start = now(options.uses_cpu_time);
    body(round);
    s.push_back(now(options.uses_cpu_time) - start);
  }
  std::sort(s.begin(), s.end());
  return {s.front(), s[s.size() / 2]};
}

// fp32 operations per second of fma on registers.
double measure_fp32_ops(const Options& options, Isa isa, ThreadPool& pool) {
  const bool is_512 = isa == Isa::avx512vnni;
  const Times t = time(options, [&](int) {
    pool.parallel_for(pool.num_threads(), 1,
                      [&](int64_t, int64_t, int) { is_512 ? multiply_add_avx512() : multiply_add_avx2(); });
  });
  return 2.0 * 12 * kFmaSteps * (is_512 ? 16 : 8) * pool.num_threads() / t.best;
}

class Bench {
 public:
  Bench(const Options& options, Backend& backend, const Ceilings& ceilings)
      : options_(options), backend_(backend), ceilings_(ceilings) {}

  void run() {
    for (const Shape& s : kLinears) gemm_int(s, /*is_w4ax=*/true);
    gemm_int(kHead, /*is_w4ax=*/false);
    for (const Shape& s : {kLinears[0], kLinears[3], kHead}) gemm_w16(s);
    for (int m : {1, 16, 512}) {
      quantize_act("attn_in", ActSource::rms_norm, 2048, m);
      quantize_act("o_in", ActSource::bf16, 2048, m);
      quantize_act("down_in", ActSource::silu_mul, 5632, m);
    }
  }

  nlohmann::json cases = nlohmann::json::array();

 private:
  bool is_wanted(const std::string& op) const {
    return options_.only.empty() || op.find(options_.only) != std::string::npos;
  }

  DeviceBuffer random_bytes(size_t bytes) {
    DeviceBuffer buffer(backend_, bytes);
    std::mt19937_64 rng(1);
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
      const uint64_t x = rng();
      memcpy(buffer.as<char>() + i, &x, 8);
    }
    return buffer;
  }

  void gemm_int(const Shape& s, bool is_w4ax) {
    const std::string op = is_w4ax ? "gemm_w4ax" : "gemm_w8a8";
    if (!is_wanted(op)) return;
    const size_t groups = static_cast<size_t>(s.n) * static_cast<size_t>(s.k / kGroup);
    const std::vector<uint8_t> codes(static_cast<size_t>(s.n) * static_cast<size_t>(s.k), 0x35), s1(groups, 3),
        z(groups, 8);
    const std::vector<float> s0(static_cast<size_t>(s.n), 1e-3f);
    auto pack = [&] {
      if (is_w4ax) return backend_.pack_w4ax({s.n, s.k, codes.data(), s1.data(), z.data(), s0.data()});
      return backend_.pack_w8({s.n, s.k, reinterpret_cast<const int8_t*>(codes.data()), s0.data()});
    };
    std::vector<PackedWeights> layers{pack()};
    while (layers.size() * layers[0].bytes < kRotateBytes) layers.push_back(pack());
    for (int m : kTokens) {
      const DeviceBuffer x = random_bytes(static_cast<size_t>(m) * static_cast<size_t>(s.k) * 2);
      for (int64_t i = 0; i < int64_t{m} * s.k; ++i) x.as<bf16>()[i] = to_bf16(static_cast<float>(i % 251) - 125.0f);
      const DeviceBuffer memory(backend_, backend_.acts_bytes(m, s.k)), errors(backend_, static_cast<size_t>(m) * 4);
      const DeviceBuffer d(backend_, static_cast<size_t>(m) * static_cast<size_t>(s.n) * 4);
      QuantizeActArgs quantize;
      quantize.x = x.data();
      quantize.out = backend_.bind_acts(memory.data(), m, s.k);
      quantize.row_errors = errors.as<uint32_t>();
      quantize.error_tag = 1;
      const ActFormat format{.k_in = s.k, .k = s.k, .num_int8_groups = is_w4ax ? 1 : 0};
      backend_.quantize_act({.m = m, .format = format, .source = ActSource::bf16}, quantize);
      const GemmProblem p{m, s.n, s.k, format.num_int8_groups, is_w4ax ? GemmOutput::bf16 : GemmOutput::f32};
      const Times t = time(options_, [&](int round) {
        const GemmArgs args{quantize.out, layers[static_cast<size_t>(round) % layers.size()], s0.data(), nullptr,
                            d.data()};
        is_w4ax ? backend_.gemm_w4ax(p, args) : backend_.gemm_w8a8(p, args);
      });
      report(op, s, m, t, static_cast<double>(layers[0].bytes), ceilings_.int8_ops);
    }
    for (const PackedWeights& w : layers) backend_.free(w.data);
  }

  void gemm_w16(const Shape& s) {
    if (!is_wanted("gemm_w16")) return;
    const size_t bytes = static_cast<size_t>(s.n) * static_cast<size_t>(s.k) * 2;
    std::vector<DeviceBuffer> layers;
    while (layers.empty() || layers.size() * bytes < kRotateBytes) {
      layers.emplace_back(backend_, bytes);
      for (size_t i = 0; i < bytes / 2; ++i)
        layers.back().as<bf16>()[i] = to_bf16(static_cast<float>(i % 61) * 0.01f - 0.3f);
    }
    for (int m : kTokens) {
      const DeviceBuffer a(backend_, static_cast<size_t>(m) * static_cast<size_t>(s.k) * 4);
      const DeviceBuffer d(backend_, static_cast<size_t>(m) * static_cast<size_t>(s.n) * 4);
      for (int64_t i = 0; i < int64_t{m} * s.k; ++i) a.as<float>()[i] = static_cast<float>(i % 251) - 125.0f;
      const GemmProblem p{m, s.n, s.k, 0, GemmOutput::f32};
      const Times t = time(options_, [&](int round) {
        backend_.gemm_w16(
            p,
            {.a = a.as<float>(), .b = layers[static_cast<size_t>(round) % layers.size()].data(), .d = d.as<float>()});
      });
      report("gemm_w16", s, m, t, static_cast<double>(bytes), ceilings_.fp32_ops);
    }
  }

  // No ceiling: what counts is its time beside the GEMM it feeds.
  void quantize_act(const char* site, ActSource source, int k, int m) {
    if (!is_wanted("quantize_act")) return;
    const DeviceBuffer x = random_bytes(static_cast<size_t>(m) * static_cast<size_t>(k) * 4);
    for (int64_t i = 0; i < int64_t{m} * k; ++i) {
      if (source == ActSource::rms_norm) {
        x.as<float>()[i] = static_cast<float>(i % 251) - 125.0f;
      } else {
        x.as<bf16>()[i] = to_bf16(static_cast<float>(i % 251) - 125.0f);
        x.as<bf16>()[(source == ActSource::silu_mul ? int64_t{m} * k : 0) + i] =
            to_bf16(static_cast<float>(i % 13) - 6.0f);
      }
    }
    const std::vector<float> gain(static_cast<size_t>(k), 1.0f);
    std::vector<int32_t> perm(static_cast<size_t>(k));
    for (int i = 0; i < k; ++i) perm[static_cast<size_t>(i)] = static_cast<int32_t>((int64_t{i} * 1021) % k);
    const DeviceBuffer memory(backend_, backend_.acts_bytes(m, k)), errors(backend_, static_cast<size_t>(m) * 4);
    QuantizeActArgs args;
    args.x = x.data();
    args.gain = gain.data();
    args.eps = 1e-5f;
    args.perm = source == ActSource::silu_mul ? nullptr : perm.data();
    args.out = backend_.bind_acts(memory.data(), m, k);
    args.row_errors = errors.as<uint32_t>();
    args.error_tag = 1;
    const ActFormat format{.k_in = k, .k = k, .num_int8_groups = 1, .bits2 = 4, .rotate = true};
    const Times t =
        time(options_, [&](int) { backend_.quantize_act({.m = m, .format = format, .source = source}, args); });
    std::printf("%-13s %-8s %6s %6d %5d | %10.1f %10.1f |\n", "quantize_act", site, "", k, m, t.best * 1e6,
                t.median * 1e6);
    cases.push_back({{"op", "quantize_act"},
                     {"name", site},
                     {"k", k},
                     {"m", m},
                     {"best_us", t.best * 1e6},
                     {"median_us", t.median * 1e6}});
  }

  void report(const std::string& op, const Shape& s, int m, const Times& t, double bytes, double peak_ops) {
    const double ops = 2.0 * m * s.n * s.k, floor = std::max(bytes / ceilings_.read, ops / peak_ops);
    std::printf("%-13s %-8s %6d %6d %5d | %10.1f %10.1f | %6.1f %7.3f | %6.1f%% %6.1f%%\n", op.c_str(), s.name, s.n,
                s.k, m, t.best * 1e6, t.median * 1e6, bytes / t.median / 1e9, ops / t.median / 1e12,
                100.0 * floor / t.best, 100.0 * floor / t.median);
    std::fflush(stdout);
    cases.push_back({{"op", op},
                     {"name", s.name},
                     {"n", s.n},
                     {"k", s.k},
                     {"m", m},
                     {"best_us", t.best * 1e6},
                     {"median_us", t.median * 1e6},
                     {"gb_per_s", bytes / t.median / 1e9},
                     {"tops", ops / t.median / 1e12},
                     {"fraction_best", floor / t.best},
                     {"fraction_median", floor / t.median}});
  }

  const Options& options_;
  Backend& backend_;
  Ceilings ceilings_;
};

int run(int argc, char** argv) {
  CLI::App app("Times the CPU backend's linear layers");
  Options options;
  app.add_option("--threads", options.threads, "threads (default: all that may run)");
  app.add_option("--isa", options.isa, "one ISA (default: all this machine has)");
  app.add_option("--only", options.only, "ops whose name contains this");
  app.add_option("--seconds", options.seconds, "time for each case");
  app.add_flag("--cpu-time", options.uses_cpu_time,
               "count CPU time of one thread, for a machine that is busy with other work");
  app.add_flag("--json", options.json, "the last line is one JSON object");
  CLI11_PARSE(app, argc, argv);
  const auto pool = std::make_shared<ThreadPool>(options.uses_cpu_time ? 1 : options.threads);
  nlohmann::json result = {{"threads", pool->num_threads()}, {"isas", nlohmann::json::array()}};
  const double read = measure_read_bandwidth(*pool);
  for (Isa isa : kAllIsas) {
    if (!detect_isas().has(isa)) {
      std::printf("%s: not on this machine, skipped\n", to_string(isa));
      continue;
    }
    if (!options.isa.empty() && options.isa != to_string(isa)) continue;
    const Ceilings ceilings{read, 2.0 * measure_int8_macs(isa, *pool), measure_fp32_ops(options, isa, *pool)};
    std::printf("%s, %d threads: reads %.1f GB/s, int8 %.3f TOPS, fp32 %.3f TFLOP/s\n", to_string(isa),
                pool->num_threads(), ceilings.read / 1e9, ceilings.int8_ops / 1e12, ceilings.fp32_ops / 1e12);
    std::printf("%-13s %-8s %6s %6s %5s | %10s %10s | %6s %7s | %7s %7s\n", "op", "linear", "n", "k", "m", "best us",
                "median us", "GB/s", "TOPS", "best", "median");
    const std::unique_ptr<Backend> backend = cpu_backend(to_string(isa), pool);
    Bench bench(options, *backend, ceilings);
    bench.run();
    result["isas"].push_back({{"isa", to_string(isa)},
                              {"read_gb_per_s", ceilings.read / 1e9},
                              {"int8_tops", ceilings.int8_ops / 1e12},
                              {"fp32_tflops", ceilings.fp32_ops / 1e12},
                              {"cases", bench.cases}});
  }
  if (options.json) std::printf("%s\n", result.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace comet

int main(int argc, char** argv) {
  try {
    return comet::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cpu_kernels: %s\n", error.what());
    return 1;
  }
}
