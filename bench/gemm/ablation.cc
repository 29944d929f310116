// SPDX-License-Identifier: Apache-2.0
// comet-bench-gemm --ablation: gemm_w4ax_sm90 and gemv_w4ax_sm90 beside themselves with one thing taken out, as COMET's
// figures 13 and 14.
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "bench/gemm/cublas.h"
#include "bench/gemm/gemm_ablation.h"
#include "bench/gemm/kernel_bench.h"
#include "bench/gemm/layer.h"
#include "bench/gemm/meter.h"
#include "bench/gemm/replay.h"
#include "kernels/cuda/gemm_sm90.h"
#include "kernels/cuda/layouts_sm90.h"

namespace comet::cuda {
namespace {

using gemm_bench::Shape;

constexpr const char* kDense = "cuBLAS fp16";

using Launch = void (*)(const GemmKernelArgs&, const GemmPlan&, const LaunchShape&);

struct Ablation {
  const char* name;
  Launch gemm, gemv;      // m <= 16: the gemv, or nothing
  bool is_plain = false;  // weights of pack_w4ax_plain
};
constexpr Ablation kAblations[] = {
    {"pipeline", launch_without_pipeline, launch_gemv_without_pipeline},
    {"overlap", launch_without_overlap, nullptr},
    {"layout", launch_without_layout, launch_gemv_without_layout, true},
    {"fast conversion", launch_without_fast_conversion, launch_gemv_without_fast_conversion}};

struct Candidate : Replay {
  std::string name;
};

// The same tiles and sides, a CTA each, nothing shared.
GemmPlan unscheduled(const GemmProblem& p, const GemmPlan& plan) {
  if (plan.sides > 1) return cluster_plan(p, {plan.tile_m, 1, plan.sides}, 1);
  return tile_plan(p, {plan.tile_m, 1}, plan.schedule.tiles_m * plan.schedule.tiles_n, false);
}

// A layer's weights in both orders.
struct Weights {
  W4Layer layer;
  DeviceArray<uint8_t> plain;

  Weights(const Shape& s, cudaStream_t stream) : layer(s.n, s.k, stream), plain(layer.bytes * layer.copies) {
    for (int i = 0; i < layer.copies; ++i)
      pack_w4ax_plain({s.n, s.k, layer.codes.data(), layer.group_scales.data(), layer.group_zeros.data(), nullptr},
                      plain.data() + i * layer.bytes, stream);
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
  }
  PackedWeights plain_copy(int i) const {
    return {plain.data() + layer.bytes * (i % layer.copies), layer.bytes, layer.n, layer.k};
  }
};

class AblationBench : KernelBench {
 public:
  AblationBench(const api::BenchGemmOptions& options, const Report& report) : KernelBench(options, report) {
    if (options.baselines) dense_ = load_cublas(options.cublas_folder, stream_);
  }

  api::BenchGemmResult run(const std::vector<Shape>& shapes) {
    for (const Shape& shape : shapes) {
      const Weights weights(shape, stream_);
      for (const int share4 : options_.shares4)
        for (const int m : options_.tokens) {
          run_point(shape, weights, m, share4);
          save();
        }
    }
    return {.tables = table(), .num_wrong = num_wrong_};
  }

 private:
  void run_point(const Shape& shape, const Weights& weights, int m, int share4) {
    const Regions regions(shape.k, share4);
    const GemmProblem problem{m, shape.n, shape.k, regions.n8, GemmOutput::bf16};
    const GemmPlan plan = plan_gemm_w4ax_sm90(problem, sms_, Front::gemm);
    Acts acts(m, shape.k, plan.act_layout());
    acts.fill(regions);
    DeviceArray<uint16_t> d(static_cast<size_t>(m) * shape.n);
    const Scratch scratch({plan});
    const GemmWorkspace workspace = scratch.args();
    const auto args_of = [&](const PackedWeights& b) {
      GemmArgs args;
      args.a = acts.args();
      args.b = b;
      args.channel_scales = weights.layer.channel_scales.data();
      args.d = d.data();
      return args;
    };

    std::vector<Candidate> candidates;
    const auto add = [&](const std::string& name, std::function<void(int)> launch, bool in_order = false) {
      Candidate& c = candidates.emplace_back();
      c.name = name, c.launch = std::move(launch), c.in_order = in_order;
    };
    const auto launch_plan = [&](const GemmPlan& p) {
      return [&, p](int i) { gemm_w4ax_sm90(problem, args_of(weights.layer.copy(i)), p, workspace, stream_); };
    };
    add("full", launch_plan(plan));
    for (const Ablation& a : kAblations) {
      const Launch launch = plan.tile_m == 0 ? a.gemv : a.gemm;
      if (launch == nullptr || !has_ablations(m, plan)) continue;
      add(a.name, [&, launch, is_plain = a.is_plain](int i) {
        const GemmArgs args = args_of(is_plain ? weights.plain_copy(i) : weights.layer.copy(i));
        launch(gemm_kernel_args(problem, args, kUnitBytesW4, plan, workspace), plan, launch_shape(plan, stream_));
      });
    }
    if (plan.tile_m > 0) add("scheduling", launch_plan(unscheduled(problem, plan)));
    add("early start", launch_plan(plan), true);
    if (options_.check)
      for (const Candidate& c : candidates) check(problem, weights.layer, acts, c, d);

    DeviceArray<uint8_t> dense_x, dense_w;
    if (dense_ != nullptr) {
      const size_t one = static_cast<size_t>(shape.n) * shape.k;
      const int copies = copies_of(2 * one);
      dense_x = DeviceArray<uint8_t>(static_cast<size_t>(m) * shape.k * 2);
      dense_w = DeviceArray<uint8_t>(2 * one * copies);
      make_dense(dense_x.data(), dense_x.bytes() / 2, DenseType::f16, 5);
      make_dense(dense_w.data(), dense_w.bytes() / 2, DenseType::f16, 6);
      COMET_CUDA_CHECK(cudaDeviceSynchronize());
      add(kDense, [&, one, copies](int i) {
        dense_->run(DenseType::f16, dense_x.data(), dense_w.data() + 2 * one * (i % copies), d.data(), m, shape.n,
                    shape.k);
      });
    }
    run_replays(*timer_, candidates, {.rounds = options_.rounds, .replay_us = options_.replay_us, .clocks = true});
    tell(shape, m, share4, to_string(plan), candidates);
  }

  // Over poison, twice: what a launch leaves in the workspace is the next one's.
  void check(const GemmProblem& p, const W4Layer& layer, const Acts& acts, const Candidate& c,
             DeviceArray<uint16_t>& d) {
    for (int i = 0; i < 2; ++i) {
      d.fill_bytes(0xff);
      COMET_CUDA_CHECK(cudaDeviceSynchronize());
      c.launch(layer.copies - 1);
      COMET_CUDA_CHECK(cudaDeviceSynchronize());
      const int wrong = count_wrong_outputs(p, layer, acts, d.data());
      if (wrong > 0) report_(fmt::format("WRONG: {} outputs, {}, m {} n {} k {}", wrong, c.name, p.m, p.n, p.k));
      num_wrong_ += wrong;
    }
  }

  void tell(const Shape& shape, int m, int share4, const std::string& plan, const std::vector<Candidate>& candidates) {
    const Candidate& full = candidates[0];
    nlohmann::json row = {{"shape", shape.name}, {"m", m},          {"share4", share4},
                          {"us", full.us},       {"mhz", full.mhz}, {"plan", plan}};
    std::string line =
        fmt::format("{:<12} M {:4} 4-bit {:3}% {:8.2f} us {:4.0f} MHz", shape.name, m, share4, full.us, full.mhz);
    for (size_t i = 1; i < candidates.size(); ++i) {
      const Candidate& c = candidates[i];
      const double slowdown = c.us / full.us;
      line += fmt::format(" | {} {:.2f} x{:.2f}", c.name, c.us, slowdown);
      row[c.name == kDense ? "beside" : "without"][c.name] = {{"us", c.us}, {"mhz", c.mhz}, {"slowdown", slowdown}};
      logs_[c.name][m].push_back(std::log(slowdown));
    }
    result_["rows"].push_back(row);
    result_["wrong"] = num_wrong_;
    report_(line + " | " + plan);
  }

  // Geometric means over shapes and shares.
  std::string table() const {
    std::string out = "slower without  ";
    for (const int m : options_.tokens) out += fmt::format("  M {:4}", m);
    for (const char* name : {"pipeline", "overlap", "layout", "fast conversion", "scheduling", "early start", kDense}) {
      if (logs_.count(name) == 0) continue;
      out += fmt::format("\n{:<16}", name);
      for (const int m : options_.tokens) {
        const auto& of_name = logs_.at(name);
        const auto found = of_name.find(m);
        out += found == of_name.end() ? "       -" : fmt::format("  {:6.3f}", mean(found->second));
      }
    }
    return out + fmt::format("\nwrong outputs: {}\n", num_wrong_);
  }

  static double mean(const std::vector<double>& logs) {
    double sum = 0.0;
    for (const double x : logs) sum += x;
    return std::exp(sum / static_cast<double>(logs.size()));
  }

  int64_t num_wrong_ = 0;
  std::unique_ptr<DenseGemm> dense_;
  std::map<std::string, std::map<int, std::vector<double>>> logs_;  // of slowdowns: [name][m]
};

}  // namespace
}  // namespace comet::cuda

comet::api::BenchGemmResult comet::gemm_bench::measure_ablation(const api::BenchGemmOptions& options,
                                                                const std::function<void(const std::string&)>& report) {
  const std::vector<Shape> shapes = resolve_shapes(options.shapes);
  return cuda::AblationBench(options, report).run(shapes);
}
