// SPDX-License-Identifier: Apache-2.0
// A point: gemm_w4ax and the baselines as CUDA graphs, replayed in turn; weights rotate through more than the L2.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/check.h"
#include "bench/gemm/ceilings.h"
#include "bench/gemm/cublas.h"
#include "bench/gemm/data.h"
#include "bench/gemm/fused.h"
#include "bench/gemm/layer.h"
#include "bench/gemm/loops.h"
#include "bench/gemm/meter.h"
#include "bench/gemm/stream.h"
#include "kernels/cuda/gemm_sm90.h"
#include "kernels/cuda/layouts_sm90.h"

namespace comet::cuda {
namespace {

using gemm_bench::Beside;
using gemm_bench::Machine;
using gemm_bench::Point;
using gemm_bench::Shape;

constexpr int kMostStreamTokens = 32;                    // beyond, tensor cores count
constexpr int kLeastTokensF8 = 16, kLeastTokensS8 = 17;  // of cuBLASLt: fp8 is padded to it, int8 left out

std::vector<GemmPlan> all_plans(const GemmProblem& p, int sms) {
  std::vector<GemmPlan> plans = candidate_plans(p, w4ax_tiles_sm90(), sms);
  std::erase_if(plans, [&](const GemmPlan& plan) {
    return (plan.tile_m >= 2 * padded_tokens(p.m) && plan.tile_m > 32) || p.m > 8 * plan.tile_m;
  });
  if (p.m <= kMaxGemvTokens) plans.insert(plans.end(), {gemv_plan(p, sms, 1), gemv_plan(p, sms, 2)});
  return plans;
}

Replay replay_of(std::function<void(int)> launch) { return {.launch = std::move(launch)}; }

// What stays while points of a shape are measured.
struct Stage {
  Shape shape;
  W4Layer layer;
  DeviceArray<uint8_t> dense_w;  // 16-bit weights, copies_of() them

  Stage(const Shape& s, bool has_dense, cudaStream_t stream) : shape(s), layer(s.n, s.k, stream) {
    const size_t bytes = static_cast<size_t>(s.n) * s.k * 2;
    if (has_dense) dense_w = DeviceArray<uint8_t>(bytes * copies_of(bytes));
  }
};

// What one point needs.
struct Setup {
  Stage& stage;
  GemmProblem problem;
  Regions regions;
  std::vector<Acts> acts;           // in every order that a plan takes
  DeviceArray<uint8_t> d, dense_x;  // d: [m, n] of up to 4 bytes, m padded to 17
  std::vector<GemmPlan> plans;      // behind a GEMM; the chosen one first
  GemmPlan fused_plan;              // behind quantize_act: differs in where CTAs go only
  Scratch scratch;

  const Acts& acts_of(const GemmPlan& plan) const {
    return *std::find_if(acts.begin(), acts.end(), [&](const Acts& a) { return a.layout == plan.act_layout(); });
  }
};

class MeterSm90 final : public gemm_bench::Meter {
 public:
  explicit MeterSm90(const api::BenchGemmOptions& options) : options_(options), device_(open_hopper()) {
    COMET_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    if (options.baselines) dense_ = load_cublas(options.cublas_folder, stream_);
    timer_ = std::make_unique<ReplayTimer>(stream_);
    machine_ = describe(device_, measure_copy(*timer_, device_.multiProcessorCount, stream_, options.rounds).best());
    machine_.loops = measure_loops(*timer_, device_.multiProcessorCount, stream_, options.rounds);
  }

  const Machine& machine() const override { return machine_; }

  Point measure(const Shape& shape, int m, int share4) override {
    if (stage_ == nullptr || stage_->shape.name != shape.name) {
      stage_.reset();  // before the next one needs the memory
      stage_ = std::make_unique<Stage>(shape, dense_ != nullptr, stream_);
    }
    Point point{.shape = shape.name, .m = m, .n = shape.n, .k = shape.k, .share4 = share4};
    Setup s = set_up(m, share4);
    point.plan = to_string(s.plans[0]);
    if (options_.check)
      for (const GemmPlan& plan : s.plans) check(s, plan, point);
    measure_plans(s, point);
    if (dense_ != nullptr) measure_baselines(s, point);
    return point;
  }

 private:
  Setup set_up(int m, int share4) const {
    const int n = stage_->shape.n, k = stage_->shape.k, sms = device_.multiProcessorCount;
    const Regions regions(k, share4);
    const GemmProblem problem{m, n, k, regions.n8, GemmOutput::bf16};
    const size_t tokens = std::max(m, kLeastTokensS8);
    Setup s{*stage_, problem, regions, {}, DeviceArray<uint8_t>(tokens * n * 4), {}, {}, {}, {}};
    if (dense_ != nullptr) s.dense_x = DeviceArray<uint8_t>(tokens * k * 2);
    s.plans = {plan_gemm_w4ax_sm90(problem, sms, Front::gemm)};
    s.fused_plan = plan_gemm_w4ax_sm90(problem, sms, Front::quantize_act);
    if (options_.sweep) {
      const std::vector<GemmPlan> more = all_plans(problem, sms);
      s.plans.insert(s.plans.end(), more.begin(), more.end());
    }
    for (const ActLayout layout : {ActLayout::tiles_sm90, ActLayout::fragments_sm90})
      if (std::any_of(s.plans.begin(), s.plans.end(), [&](const GemmPlan& p) { return p.act_layout() == layout; }))
        s.acts.emplace_back(m, k, layout).fill(regions);
    s.scratch = Scratch(s.plans);
    return s;
  }

  void launch_gemm(const Setup& s, const GemmPlan& plan, const Acts& acts, int i) const {
    GemmArgs args;
    args.a = acts.args();
    args.b = s.stage.layer.copy(i);
    args.channel_scales = s.stage.layer.channel_scales.data();
    args.d = s.d.data();
    gemm_w4ax_sm90(s.problem, args, plan, s.scratch.args(), stream_);
  }

  void note_wrong(Point& point, int wrong, const std::string& what) const {
    if (wrong == 0) return;
    point.num_wrong += wrong;
    point.notes.push_back(fmt::format("WRONG: {} values, {}", wrong, what));
  }

  void check(const Setup& s, const GemmPlan& plan, Point& point) const {
    for (int i = 0; i < options_.repeat_checks; ++i) {
      poison_outputs(s);
      launch_gemm(s, plan, s.acts_of(plan), 0);
      COMET_CUDA_CHECK(cudaDeviceSynchronize());
      note_wrong(point, count_wrong_outputs(s.problem, s.stage.layer, s.acts_of(plan), s.d.data()), to_string(plan));
    }
  }

  void poison_outputs(const Setup& s) const {
    COMET_CUDA_CHECK(cudaMemset(s.d.data(), 0xff, static_cast<size_t>(s.problem.m) * s.problem.n * 2));
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
  }

  // The kernels right behind one another, as they are timed; then what the first wrote and what the second made of it.
  void check_fused(const Setup& s, FusedInput& input, Point& point) const {
    input.poison();
    poison_outputs(s);
    input.quantize(0);
    launch_gemm(s, s.fused_plan, input.acts(), 0);
    input.norm(0);
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
    const Acts& acts = input.acts();
    unpack_activations(acts.rows.data(), acts.tiles.data(), acts.layout, acts.m, acts.k);
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
    note_wrong(point, input.count_wrong_codes(), "quantize_act_ax_sm90");
    note_wrong(point, count_wrong_outputs(s.problem, s.stage.layer, input.acts(), s.d.data()),
               "quantize_act_ax_sm90 and " + to_string(s.fused_plan));
    note_wrong(point, input.count_wrong_norms(), "rms_norm_f16");
  }

  void measure_plans(const Setup& s, Point& point) {
    std::vector<Replay> replays;
    for (const GemmPlan& plan : s.plans)
      replays.push_back(replay_of([&, plan](int i) { launch_gemm(s, plan, s.acts_of(plan), i); }));
    const DeviceArray<uint32_t> words(64 * static_cast<size_t>(device_.multiProcessorCount));
    if (s.problem.m <= kMostStreamTokens)
      replays.push_back(replay_of(
          [&](int i) { launch_stream(s.stage.layer.copy(i), words.data(), device_.multiProcessorCount, stream_); }));
    time(replays);
    if (s.problem.m <= kMostStreamTokens) point.stream_us = replays.back().us;
    point.us = replays[0].us;
    point.mhz = replays[0].mhz;
    if (!options_.sweep) return;
    std::vector<size_t> order(s.plans.size() - 1);
    for (size_t i = 0; i < order.size(); ++i) order[i] = i + 1;
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return replays[a].us < replays[b].us; });
    for (const size_t i : order) {
      const GemmPlan& plan = s.plans[i];
      point.sweep.push_back(
          {{"us", replays[i].us},
           {"predicted_us", predicted_us(s.problem, plan, device_.multiProcessorCount, s.stage.layer.bytes)},
           {"plan", to_string(plan)},
           {"tile_m", plan.tile_m},
           {"sides", plan.sides},
           {"rows", plan.rows},
           {"ctas", plan.ctas},
           {"full", plan.schedule.full_tiles},
           {"owned", owned_groups(plan.schedule)},
           {"range", int{plan.schedule.range_groups}},
           {"cluster", int{plan.schedule.cluster}}});
    }
  }

  // The types share memory, so that they are timed one after another, ours again beside each.
  void measure_baselines(const Setup& s, Point& point) {
    measure_baseline(s, "fp16", DenseType::f16, 2, 1, point);
    if (options_.bf16) measure_baseline(s, "bf16", DenseType::bf16, 2, 1, point);
    measure_baseline(s, "fp8", DenseType::e4m3, 1, kLeastTokensF8, point);
    if (s.problem.m >= kLeastTokensS8) measure_baseline(s, "int8", DenseType::s8, 1, kLeastTokensS8, point);
  }

  void measure_baseline(const Setup& s, const char* kind, DenseType type, size_t value_bytes, int least_tokens,
                        Point& point) {
    const int n = s.problem.n, k = s.problem.k, tokens = std::max(s.problem.m, least_tokens);
    const size_t one = static_cast<size_t>(n) * k * value_bytes;
    const int copies = copies_of(static_cast<size_t>(n) * k * 2);
    make_dense(s.dense_x.data(), static_cast<size_t>(tokens) * k, type, 5);
    make_dense(s.stage.dense_w.data(), static_cast<size_t>(copies) * n * k, type, 6);
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
    const auto launch_dense = [&, one, copies](const void* x, int i) {
      dense_->run(type, x, s.stage.dense_w.data() + one * (i % copies), s.d.data(), tokens, n, k);
    };
    std::vector<Replay> replays = {replay_of([&](int i) { launch_dense(s.dense_x.data(), i); }),
                                   replay_of([&](int i) { launch_gemm(s, s.plans[0], s.acts_of(s.plans[0]), i); })};
    std::optional<FusedInput> input;
    if (type == DenseType::f16 && options_.fused) input = make_fused_input(s, point);
    if (input) {
      replays.push_back(replay_of([&](int i) {
        input->norm(i);
        launch_dense(input->normed(), i);
      }));
      replays.push_back(replay_of([&](int i) {
        input->quantize(i);
        launch_gemm(s, s.fused_plan, input->acts(), i);
      }));
      replays.push_back(replay_of([&](int i) {
        input->move(i);
        launch_gemm(s, s.fused_plan, input->acts(), i);
      }));
    }
    time(replays);
    const auto beside = [&](size_t theirs) {
      const Replay &a = replays[theirs], &b = replays[theirs + 1];
      return Beside{a.us, b.us, a.mhz, b.mhz};
    };
    point.beside[kind] = beside(0);
    if (!input) return;
    point.beside["fused"] = beside(2);
    point.fused_move_us = replays.back().us;
  }

  std::optional<FusedInput> make_fused_input(const Setup& s, Point& point) const {
    try {
      std::optional<FusedInput> input(std::in_place, s.problem.m, s.problem.k, s.fused_plan.act_layout(), s.regions,
                                      device_.multiProcessorCount, stream_);
      if (options_.check) check_fused(s, *input, point);
      return input;
    } catch (const Unsupported& e) {
      point.notes.push_back(fmt::format("not fused: {}", e.what()));
      return {};
    }
  }

  void time(std::vector<Replay>& replays) {
    run_replays(*timer_, replays, {.rounds = options_.rounds, .replay_us = options_.replay_us, .clocks = true});
  }

  api::BenchGemmOptions options_;
  cudaDeviceProp device_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<DenseGemm> dense_;
  std::unique_ptr<ReplayTimer> timer_;
  Machine machine_;
  std::unique_ptr<Stage> stage_;
};

}  // namespace
}  // namespace comet::cuda

std::unique_ptr<comet::gemm_bench::Meter> comet::gemm_bench::make_meter(const api::BenchGemmOptions& options) {
  return std::make_unique<cuda::MeterSm90>(options);
}
