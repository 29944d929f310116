// SPDX-License-Identifier: Apache-2.0
// quantize_act_ax_sm90 alone, beside a copy of as many bytes and beside an empty kernel.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "base/dtype.h"
#include "bench/gemm/ceilings.h"
#include "bench/gemm/copy.h"
#include "bench/gemm/data.h"
#include "bench/gemm/device_array.h"
#include "bench/gemm/kernel_bench.h"
#include "bench/gemm/meter.h"
#include "bench/gemm/replay.h"
#include "kernels/cuda/layouts_sm90.h"
#include "kernels/cuda/quantize_act_sm80.h"
#include "kernels/cuda/quantize_act_sm90.h"

namespace comet::cuda {
namespace {

constexpr size_t kRotatedBytes = size_t{320} << 20;  // read and written between two uses of a buffer: five times the L2
constexpr double kRotatedFrom = 4e6;                 // below, rows come from the L2, as from the kernel before

enum class Order { none, shuffled, unchanged };

struct Shape {
  const char* name;
  ActSource source;
  Order order;
  int k, n8;
};
constexpr Shape kShapes[] = {{"rms_norm", ActSource::rms_norm, Order::shuffled, 5120, 4},
                             {"rms_norm", ActSource::rms_norm, Order::shuffled, 4096, 4},
                             {"rms_norm", ActSource::rms_norm, Order::shuffled, 8192, 4},
                             {"rms_norm", ActSource::rms_norm, Order::shuffled, 14336, 4},
                             {"rms_norm", ActSource::rms_norm, Order::shuffled, 16384, 4},
                             {"rms_norm", ActSource::rms_norm, Order::shuffled, 28672, 4},
                             {"rms_norm, order unchanged", ActSource::rms_norm, Order::unchanged, 8192, 4},
                             {"bf16", ActSource::bf16, Order::shuffled, 8192, 4},
                             {"silu_mul", ActSource::silu_mul, Order::none, 14336, 0},
                             {"silu_mul", ActSource::silu_mul, Order::none, 28672, 0}};

struct Candidate : Replay {
  QuantizePlan plan;
};

class QuantizeBench : KernelBench {
 public:
  QuantizeBench(const api::BenchGemmOptions& options, const Report& report) : KernelBench(options, report) {}

  void run() {
    run_ceilings();
    for (const Shape& shape : kShapes)
      for (const int m : options_.tokens) run_point(shape, m);
    save();
  }

 private:
  void run_ceilings() {
    std::vector<Candidate> c(1);
    c[0].launch = [&](int) { launch_empty(stream_); };
    time(c);
    const CopyRates rates = measure_copy(*timer_, sms_, stream_, options_.rounds);
    copy_tb_per_s_ = rates.best();
    report_(fmt::format("empty kernel {:.2f} us; copy of 1 GiB: kernel {:.2f}, cudaMemcpy {:.2f} TB/s", c[0].us,
                        rates.kernel_tb_per_s, rates.memcpy_tb_per_s));
    result_["empty_us"] = c[0].us;
    result_["copy_tb_per_s"] = {{"kernel", rates.kernel_tb_per_s}, {"cudaMemcpy", rates.memcpy_tb_per_s}};
  }

  void run_point(const Shape& shape, int m) {
    const ActLayout layout = m <= kMaxGemvTokens ? ActLayout::fragments_sm90 : ActLayout::tiles_sm90;
    const int k = shape.k, padded = padded_tokens(m);
    const QuantizeActProblem problem{m, {k, k, shape.n8, 4, true, 0.95f, 0.9f}, shape.source};
    const bool is_half = shape.source != ActSource::rms_norm;
    const size_t row_bytes = static_cast<size_t>(k) * (shape.source == ActSource::bf16 ? 2 : 4);
    const size_t in = row_bytes * m, out = static_cast<size_t>(k) * m, moved = in + out;
    const int copies = moved < kRotatedFrom ? 1 : static_cast<int>(kRotatedBytes / moved) + 1;
    const StepsSm80 steps = make_steps_sm80(k, shape.n8, 4);
    const size_t values = std::max(static_cast<size_t>(k) * padded, packed_act_bytes_sm80(steps, m));
    const DeviceArray<uint8_t> multipliers(static_cast<size_t>(steps.groups) * padded_tokens_sm80(m));
    const DeviceArray<uint8_t> x(in * copies), codes(values * copies), copied(moved / 2 * copies),
        copied_to(moved / 2 * copies);
    make_dense(x.data(), x.bytes() / (is_half ? 2 : 4), is_half ? DenseType::bf16 : DenseType::f32, 3);
    std::vector<int32_t> order(k);
    std::iota(order.begin(), order.end(), 0);
    if (shape.order == Order::shuffled) std::shuffle(order.begin(), order.end(), std::mt19937(1));
    const DeviceArray<int32_t> perm(order), factors(padded);
    const DeviceArray<uint16_t> gain(std::vector<uint16_t>(k, to_bf16(0.9f).bits));
    const DeviceArray<float> scales(padded);
    const DeviceArray<uint32_t> sums(padded);
    QuantizeActArgs args;
    args.gain = gain.data();
    args.gain_dtype = DType::bf16;  // as in checkpoints
    args.eps = 1e-5f;
    args.out.layout = layout;
    args.perm = shape.order == Order::none ? nullptr : perm.data();

    const auto launch = [&, problem](int i, const QuantizePlan& plan) {
      QuantizeActArgs a = args;
      a.x = x.data() + in * (i % copies);
      a.out = {layout,         reinterpret_cast<int8_t*>(codes.data() + values * (i % copies)),
               nullptr,        nullptr,
               factors.data(), scales.data(),
               sums.data()};
      launch_quantize_act_plan_sm90(problem, a, plan, stream_);
    };
    std::vector<Candidate> c;
    std::vector<QuantizePlan> plans = {plan_quantize_act_sm90(problem, args, sms_)};
    if (plans[0].tokens == 0) return;
    if (options_.sweep) {
      for (const QuantizePlan& plan : other_plans(problem, layout, plans[0])) plans.push_back(plan);
    }
    for (const QuantizePlan& plan : plans) {
      c.emplace_back();
      c.back().plan = plan;
      c.back().launch = [&launch, plan](int i) { launch(i, plan); };
    }
    c.emplace_back();
    c.back().launch = [&](int i) {
      const size_t bytes = moved / 32 * 16, at = bytes * (i % copies);
      launch_copy(copied_to.data() + at, copied.data() + at, bytes, sms_, stream_);
    };
    Candidate ampere;  // the kernel of Ampere and Ada, here from its compute_80 PTX
    ampere.launch = [&, problem](int i) {
      QuantizeActArgs a = args;
      a.x = x.data() + in * (i % copies);
      a.out = {ActLayout::packed_sm80,
               reinterpret_cast<int8_t*>(codes.data() + values * (i % copies)),
               multipliers.data(),
               nullptr,
               factors.data(),
               scales.data(),
               sums.data()};
      quantize_act_ax_sm80(problem, a, stream_);
    };
    c.push_back(ampere);
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
    time(c);
    const double sm80_us = c.back().us;
    c.pop_back();
    const double us = c[0].us, rate = static_cast<double>(moved) / us / 1e6, copy_us = c.back().us;
    std::string line = fmt::format(
        "{:<26} k {:5} M {:4} {:8.2f} us {:5.2f} TB/s, {:3.0f}% of the large copy; copy of as much {:8.2f} us, "
        "{:3.0f}%; sm80 {:8.2f} us",
        shape.name, k, m, us, rate, 100 * rate / copy_tb_per_s_, copy_us, 100 * copy_us / us, sm80_us);
    nlohmann::json row = {{"source", shape.name},
                          {"k", k},
                          {"m", m},
                          {"us", us},
                          {"bytes", moved},
                          {"tb_per_s", rate},
                          {"of_copy", rate / copy_tb_per_s_},
                          {"same_copy_us", copy_us},
                          {"sm80_us", sm80_us}};
    for (size_t i = 0; i + 1 < c.size(); ++i) {
      const QuantizePlan& p = c[i].plan;
      const std::string text =
          fmt::format("{} tokens, {} units, clusters of {}, {} groups a CTA, {} CTAs, {} parts, {} teams{}{}", p.tokens,
                      p.units, p.cluster, p.cta_groups, p.ctas, p.parts, p.teams, p.is_few ? ", a warp a group" : "",
                      p.is_wide ? ", two groups a lane" : "");
      if (i == 0) row["plan"] = text;
      if (options_.sweep) line += fmt::format("\n    {:8.2f} us  {}", c[i].us, text);
      if (i > 0) row["plans"].push_back({{"us", c[i].us}, {"plan", text}});
    }
    result_["quantize_act"].push_back(row);
    report_(line);
  }

  std::vector<QuantizePlan> other_plans(const QuantizeActProblem& p, ActLayout layout,
                                        const QuantizePlan& chosen) const {
    std::vector<QuantizePlan> plans;
    const bool is_normed = p.source == ActSource::rms_norm;
    const int groups = p.format.num_groups();
    for (const int cluster : {2, 4, 8})
      if (const int of_cta = (groups + cluster - 1) / cluster; is_normed && p.m <= 256 && of_cta <= kMostFewGroups) {
        QuantizePlan plan{1, 1, cluster, of_cta, padded_tokens(p.m) * cluster, sms_};
        plan.is_few = true;
        plans.push_back(plan);
      }
    for (const int teams : {1, 2, 3, 4, 5})
      for (const int per_sm : {1, 2}) {
        if (layout != ActLayout::tiles_sm90 || (per_sm == 2 && (is_normed || p.m <= sms_))) continue;
        QuantizePlan plan{1, 1, 1, round_up(groups, 4), std::min(per_sm * sms_, padded_tokens(p.m)), sms_};
        plan.teams = teams;
        if (fits_teams_sm90(p, teams)) plans.push_back(plan);
        plan.units = 2, plan.is_wide = true;
        if (fits_wide_sm90(p, DType::bf16, teams)) plans.push_back(plan);
      }
    // Of normed rows also: the row in one part or in several.
    for (const int cluster : {1, 2, 4, 8})
      for (const int per_sm : {1, 2, 3, 4})
        for (const int parts : {1, kMostParts}) {
          QuantizePlan plan = chosen;
          if (is_normed) plan.units = 1;
          plan.is_few = plan.is_wide = false, plan.teams = 0, plan.cluster = cluster, plan.parts = parts;
          plan.cta_groups = round_up((groups + cluster - 1) / cluster, 4 * plan.units);
          const int passes = padded_tokens(p.m) / plan.tokens;
          plan.ctas = std::min(passes, std::max(1, sms_ * per_sm / cluster)) * cluster;
          const bool is_lone = plan.ctas / cluster * plan.tokens >= p.m;
          if (plan.cta_groups > (plan.units == 2 ? 112 : 64)) continue;
          if (parts > 1 && (!is_normed || p.format.k_in <= 8192)) continue;
          if (per_sm > 1 && passes * cluster <= sms_) continue;
          const int bytes = quantize_shared_bytes_sm90(p, true, plan, is_normed && is_lone ? 1 : 2);
          if (bytes > kMostRowBytes || (per_sm > 1 && per_sm * bytes > 228 * 1024)) continue;
          plans.push_back(plan);
        }
    return plans;
  }

  void time(std::vector<Candidate>& candidates) {
    run_replays(*timer_, candidates, {.rounds = options_.rounds, .replay_us = options_.replay_us, .clocks = false});
  }

  double copy_tb_per_s_ = 0.0;
};

}  // namespace
}  // namespace comet::cuda

void comet::gemm_bench::measure_quantize(const api::BenchGemmOptions& options,
                                         const std::function<void(const std::string&)>& report) {
  cuda::QuantizeBench(options, report).run();
}
