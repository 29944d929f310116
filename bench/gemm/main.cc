// SPDX-License-Identifier: Apache-2.0
// comet-bench-gemm: gemm_w4ax on this GPU beside cuBLAS fp16 and cuBLASLt fp8 and int8, in one run, weights rotated
// through more than the L2, CUDA graphs, medians. --sweep times every plan instead, to tune the choice.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "bench/gemm/cublas.h"
#include "bench/gemm/data.h"
#include "bench/gemm/device_array.h"
#include "bench/gemm/quantize.h"
#include "bench/gemm/replay.h"
#include "kernels/cuda/gemm_sm90.h"
#include "kernels/cuda/layouts_sm90.h"

namespace comet::cuda {
namespace {

struct Shape {
  const char* name;
  int n, k;
};
constexpr Shape kShapes[] = {{"8B.qkv", 6144, 4096},       {"8B.o", 4096, 4096},     {"8B.gate_up", 28672, 4096},
                             {"8B.down", 4096, 14336},     {"70B.qkv", 10240, 8192}, {"70B.o", 8192, 8192},
                             {"70B.gate_up", 57344, 8192}, {"70B.down", 8192, 28672}};
constexpr size_t kRotatedBytes = size_t{160} << 20;  // more than twice the L2

struct Options {
  std::vector<std::string> shapes;
  std::vector<int> ms = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};
  int share4 = 0;  // percent of the groups that are 4-bit
  bool quantize = false, sweep = false, check = true, baselines = true;
  std::string cublas_folder, json;
  int rounds = 7, repeat_checks = 1;
  double replay_us = 2500.0;
};

int copies_of(size_t bytes) { return static_cast<int>(std::clamp<size_t>(kRotatedBytes / bytes + 1, 2, 64)); }

struct Candidate : Replay {
  std::string name;
  GemmPlan plan;
};

// One layer's weights in our format, copied until they exceed the L2.
struct W4Layer {
  int n, k, copies;
  DeviceArray<uint8_t> codes, group_scales, group_zeros, packed;
  DeviceArray<float> channel_scales;
  size_t bytes;

  W4Layer(int n_, int k_, cudaStream_t stream)
      : n(n_),
        k(k_),
        codes(static_cast<size_t>(n) * k / 2),
        group_scales(static_cast<size_t>(n) * k / kGroup),
        group_zeros(group_scales.size()),
        channel_scales(n),
        bytes(packed_weight_bytes(n, k, kUnitBytesW4)) {
    copies = copies_of(bytes);
    packed = DeviceArray<uint8_t>(bytes * copies);
    make_weights_w4(codes.data(), group_scales.data(), group_zeros.data(), channel_scales.data(), n, k, 1);
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
    for (int i = 0; i < copies; ++i)
      pack_w4ax_sm90({n, k, codes.data(), group_scales.data(), group_zeros.data(), nullptr}, packed.data() + i * bytes,
                     stream);
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
  }
};

struct Acts {
  DeviceArray<int8_t> rows, tiles;
  DeviceArray<uint32_t> sums;
  DeviceArray<float> scales;
  DeviceArray<int32_t> factors;

  Acts(int m, int k, int n8, int bits2)
      : rows(static_cast<size_t>(m) * k),
        tiles(static_cast<size_t>(padded_tokens(m)) * k),
        sums(padded_tokens(m)),
        scales(padded_tokens(m)),
        factors(padded_tokens(m)) {
    make_activations({rows.data(), tiles.data(), sums.data(), scales.data(), factors.data()}, m, k, n8, bits2);
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
  }
};

std::vector<GemmPlan> all_plans(const GemmProblem& p, int sms) {
  if (p.m <= kMaxGemvTokens) return {gemv_plan(p, sms), gemv_plan(p, 2 * sms)};
  std::vector<GemmPlan> plans = candidate_plans(p, w4ax_tiles_sm90(), sms);
  std::erase_if(plans, [&](const GemmPlan& plan) {
    return (plan.tile_m >= 2 * padded_tokens(p.m) && plan.tile_m > 32) || p.m > 8 * plan.tile_m;
  });
  return plans;
}

class Bench {
 public:
  Bench(const Options& options) : options_(options) {
    COMET_CUDA_CHECK(cudaGetDeviceProperties(&device_, 0));
    COMET_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    timer_ = std::make_unique<ReplayTimer>(stream_);
    if (options.baselines) dense_ = load_cublas(options.cublas_folder, stream_);
    int driver = 0;
    COMET_CUDA_CHECK(cudaDriverGetVersion(&driver));
    result_ = {{"gpu", device_.name},
               {"sms", device_.multiProcessorCount},
               {"cuda_driver", driver},
               {"share4", options.share4}};
  }

  void run() {
    const int max_m = *std::max_element(options_.ms.begin(), options_.ms.end());
    for (const Shape& shape : kShapes) {
      if (!options_.shapes.empty() &&
          std::find(options_.shapes.begin(), options_.shapes.end(), shape.name) == options_.shapes.end())
        continue;
      const W4Layer layer(shape.n, shape.k, stream_);
      DeviceArray<uint8_t> d(static_cast<size_t>(std::max(16, max_m)) * shape.n * 4), dense_x, dense_w;
      if (dense_) {
        const size_t bytes = static_cast<size_t>(shape.n) * shape.k * 2;
        dense_w = DeviceArray<uint8_t>(bytes * copies_of(bytes));
        dense_x = DeviceArray<uint8_t>(static_cast<size_t>(std::max(16, max_m)) * shape.k * 2);
      }
      for (const int m : options_.ms) run_point(shape, layer, m, d.data(), dense_x, dense_w);
    }
    summarize();
  }

 private:
  void run_point(const Shape& shape, const W4Layer& layer, int m, uint8_t* d, const DeviceArray<uint8_t>& dense_x,
                 const DeviceArray<uint8_t>& dense_w) {
    const int groups = shape.k / kGroup, n8 = options_.share4 == 0 ? 0 : groups - groups * options_.share4 / 100;
    const GemmProblem problem{m, shape.n, shape.k, n8, GemmOutput::bf16};
    const Acts acts(m, shape.k, n8, options_.share4 == 0 ? 8 : 4);
    GemmArgs args;
    args.a.layout = ActLayout::tiles_sm90;
    args.a.values = acts.tiles.data();
    args.a.region1_factors = acts.factors.data();
    args.a.scales = acts.scales.data();
    args.a.sums = acts.sums.data();
    args.channel_scales = layer.channel_scales.data();
    args.d = d;

    std::vector<Candidate> candidates;
    const GemmPlan chosen = plan_gemm_w4ax_sm90(problem, device_.multiProcessorCount);
    std::vector<GemmPlan> plans = {chosen};
    if (options_.sweep) {
      const auto more = all_plans(problem, device_.multiProcessorCount);
      plans.insert(plans.end(), more.begin(), more.end());
    }
    size_t partial_bytes = 0, counter_bytes = 0;
    for (const GemmPlan& plan : plans)
      partial_bytes = std::max(partial_bytes, plan.partial_bytes()),
      counter_bytes = std::max(counter_bytes, plan.counter_bytes());
    const DeviceArray<uint8_t> partials(partial_bytes + 16);
    const DeviceArray<uint32_t> counters(counter_bytes / 4 + 4);
    const GemmWorkspace workspace{partials.data(), counters.data()};
    for (const GemmPlan& plan : plans) {
      Candidate c;
      c.name = "w4ax";
      c.plan = plan;
      c.launch = [&, plan](int i) {
        GemmArgs copy = args;
        copy.b = {layer.packed.data() + layer.bytes * (i % layer.copies), layer.bytes, layer.n, layer.k};
        gemm_w4ax_sm90(problem, copy, plan, workspace, stream_);
      };
      if (options_.check) check(problem, layer, acts, c, d);
      candidates.push_back(c);
    }
    if (dense_) add_baselines(shape, m, d, dense_x, dense_w, candidates);
    run_replays(*timer_, candidates, replay_options());
    report(shape, problem, layer, candidates);
  }

  void check(const GemmProblem& p, const W4Layer& layer, const Acts& acts, const Candidate& c, uint8_t* d) {
    for (int i = 0; i < options_.repeat_checks; ++i) check_once(p, layer, acts, c, d);
  }

  void check_once(const GemmProblem& p, const W4Layer& layer, const Acts& acts, const Candidate& c, uint8_t* d) {
    COMET_CUDA_CHECK(cudaMemset(d, 0xff, static_cast<size_t>(p.m) * p.n * 2));
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
    c.launch(0);
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
    const CheckArgs check_args{layer.codes.data(),
                               layer.group_scales.data(),
                               layer.group_zeros.data(),
                               layer.channel_scales.data(),
                               acts.rows.data(),
                               acts.scales.data(),
                               acts.factors.data(),
                               reinterpret_cast<uint16_t*>(d),
                               p.m,
                               p.n,
                               p.k,
                               p.num_int8_groups};
    const int wrong = count_wrong(check_args, static_cast<int64_t>(p.m) * p.n > 1000000 ? 200000 : 0);
    if (wrong != 0) {
      std::printf("WRONG: %d outputs, m %d n %d k %d, %s\n", wrong, p.m, p.n, p.k, to_string(c.plan).c_str());
      wrong_ += wrong;
    }
  }

  void add_baselines(const Shape& s, int m, uint8_t* d, const DeviceArray<uint8_t>& x, const DeviceArray<uint8_t>& w,
                     std::vector<Candidate>& candidates) {
    struct Kind {
      const char* name;
      DenseType type;
      size_t bytes;
      int min_m;
    };
    const size_t half = w.bytes() / 2;  // fp16 uses all of w, the 8-bit types the halves
    for (const Kind kind : {Kind{"fp16", DenseType::f16, 2, 1}, Kind{"fp8", DenseType::e4m3, 1, 16},
                            Kind{"int8", DenseType::s8, 1, 17}}) {
      const bool is_dropped = kind.type == DenseType::s8 && m < kind.min_m;
      if (is_dropped) continue;
      const int padded = std::max(m, kind.min_m);
      const size_t one = static_cast<size_t>(s.n) * s.k * kind.bytes;
      const int copies = static_cast<int>((kind.bytes == 2 ? w.bytes() : half) / one);
      std::vector<Candidate> single(1);
      single[0].name = kind.name;
      single[0].launch = [=, this, x_data = x.data(), w_data = w.data()](int i) {
        const uint8_t* wi = w_data + one * (i % copies);
        if (kind.type == DenseType::f16) dense_->fp16(x_data, wi, d, padded, s.n, s.k);
        if (kind.type == DenseType::e4m3) dense_->fp8(x_data, wi, d, padded, s.n, s.k);
        if (kind.type == DenseType::s8) dense_->int8(x_data, wi, d, padded, s.n, s.k);
      };
      // Each type needs its own bytes, so the dense kinds are timed one after another, ours again beside each.
      make_dense(x.data(), static_cast<size_t>(padded) * s.k, kind.type, 5);
      make_dense(w.data(), static_cast<size_t>(copies) * s.n * s.k, kind.type, 6);
      COMET_CUDA_CHECK(cudaDeviceSynchronize());
      single.push_back(candidates[0]);
      run_replays(*timer_, single, replay_options());
      baseline_us_[kind.name] = single[0].us;
      beside_us_[kind.name] = single[1].us;
      mhz_[kind.name] = {single[0].mhz, single[1].mhz};
    }
  }

  void report(const Shape& s, const GemmProblem& p, const W4Layer& layer, std::vector<Candidate>& candidates) {
    const double operations = 2.0 * p.m * p.n * p.k;
    const Candidate& ours = candidates[0];
    nlohmann::json row = {{"shape", s.name},
                          {"m", p.m},
                          {"n", p.n},
                          {"k", p.k},
                          {"us", ours.us},
                          {"mhz", ours.mhz},
                          {"plan", to_string(ours.plan)}};
    std::printf("%-12s M %4d %8.2f us %5.0f TOPS %4.2f TB/s %4.0f MHz", s.name, p.m, ours.us,
                operations / ours.us / 1e6, layer.bytes / ours.us / 1e6, ours.mhz);
    for (const char* kind : {"fp16", "fp8", "int8"}) {
      if (!baseline_us_.count(kind)) continue;
      const double ratio = baseline_us_[kind] / beside_us_[kind];
      std::printf(" | %s %8.2f x%4.2f", kind, baseline_us_[kind], ratio);
      std::printf(" (%4.0f, %4.0f MHz)", mhz_[kind].first, mhz_[kind].second);
      row[kind] = {{"us", baseline_us_[kind]},
                   {"speedup", ratio},
                   {"ours_us", beside_us_[kind]},
                   {"mhz", mhz_[kind].first},
                   {"ours_mhz", mhz_[kind].second}};
    }
    std::printf(" | %s\n", to_string(ours.plan).c_str());
    if (options_.sweep) {
      std::vector<Candidate*> order;
      for (size_t i = 1; i < candidates.size(); ++i) order.push_back(&candidates[i]);
      std::sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->us < b->us; });
      for (auto* c : order) {
        std::printf("    %8.2f us (%8.2f) %s\n", c->us,
                    predicted_us(p, c->plan, device_.multiProcessorCount, layer.bytes), to_string(c->plan).c_str());
        row["sweep"].push_back({{"us", c->us},
                                {"tile_m", c->plan.tile_m},
                                {"sides", c->plan.sides},
                                {"ctas", c->plan.ctas},
                                {"full", c->plan.schedule.full_tiles},
                                {"owned", c->plan.schedule.owned_groups},
                                {"range", c->plan.schedule.range_groups},
                                {"cluster", c->plan.schedule.cluster}});
      }
    }
    std::fflush(stdout);
    result_["rows"].push_back(row);
    baseline_us_.clear();
  }

  void summarize() {
    struct Range {
      const char* name;
      int first, last;
    };
    for (const char* kind : {"fp16", "fp8"})
      for (const Range r : {Range{"M 2-8", 2, 8}, {"M 16-256", 16, 256}, {"M 512-4096", 512, 4096}}) {
        double sum = 0.0, least = 1e9;
        int count = 0;
        for (const auto& row : result_["rows"]) {
          const int m = row["m"];
          if (m < r.first || m > r.last || !row.contains(kind) || m == 32 || m == 128) continue;
          const double x = row[kind]["speedup"];
          sum += std::log(x), least = std::min(least, x), ++count;
        }
        if (count == 0) continue;
        std::printf("%s, %s: geometric mean %.2fx, least %.2fx over %d points\n", kind, r.name, std::exp(sum / count),
                    least, count);
        result_["means"][std::string(kind) + " " + r.name] = {{"mean", std::exp(sum / count)}, {"least", least}};
      }
    result_["wrong"] = wrong_;
    std::printf("wrong outputs: %d\n", wrong_);
    if (!options_.json.empty()) std::ofstream(options_.json) << result_.dump(1) << "\n";
  }

  Options options_;
  cudaDeviceProp device_{};
  ReplayOptions replay_options() const {
    return {.rounds = options_.rounds, .replay_us = options_.replay_us, .clocks = true};
  }

  cudaStream_t stream_ = nullptr;
  std::unique_ptr<ReplayTimer> timer_;
  std::unique_ptr<DenseGemm> dense_;
  std::map<std::string, double> baseline_us_, beside_us_;
  std::map<std::string, std::pair<double, double>> mhz_;  // theirs, ours beside
  nlohmann::json result_;
  int wrong_ = 0;
};

}  // namespace
}  // namespace comet::cuda

int main(int argc, char** argv) {
  comet::cuda::Options options;
  CLI::App app{"gemm_w4ax on this GPU beside cuBLAS"};
  app.add_option("--shapes", options.shapes, "names such as 8B.qkv")->delimiter(',');
  app.add_option("--m", options.ms, "numbers of tokens")->delimiter(',');
  app.add_option("--share4", options.share4, "percent of 4-bit groups: 0, 75, 100");
  app.add_flag("--quantize", options.quantize,
               "time quantize_act alone, beside a copy of as many bytes; --sweep: other plans, too");
  app.add_flag("--sweep", options.sweep, "time every plan");
  app.add_flag("!--no-check", options.check, "skip the comparison with the formula");
  app.add_flag("!--no-baselines", options.baselines, "ours only");
  app.add_option("--cublas", options.cublas_folder, "folder of libcublas.so.13");
  app.add_option("--rounds", options.rounds, "replays of each graph");
  app.add_option("--repeat-checks", options.repeat_checks, "comparisons with the formula for each plan");
  app.add_option("--replay-us", options.replay_us, "length of a replay");
  app.add_option("--json", options.json, "write the figures here");
  CLI11_PARSE(app, argc, argv);
  try {
    if (options.quantize)
      comet::cuda::run_quantize_bench({options.ms, options.rounds, options.replay_us, options.sweep, options.json});
    else
      comet::cuda::Bench(options).run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "comet-bench-gemm: %s\n", e.what());
    return 1;
  }
  return 0;
}
