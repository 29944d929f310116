// SPDX-License-Identifier: Apache-2.0
// gemm_w8a8_sm90 on lm_head's shapes, beside cuBLAS fp16 and a bare stream of its weights.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "bench/gemm/cublas.h"
#include "bench/gemm/data.h"
#include "bench/gemm/kernel_bench.h"
#include "bench/gemm/layer.h"
#include "bench/gemm/meter.h"
#include "bench/gemm/stream.h"
#include "kernels/cuda/gemm_sm90.h"
#include "kernels/cuda/layouts_sm90.h"

namespace comet::cuda {
namespace {

struct Shape {
  const char* name;
  int n, k;
};
constexpr Shape kShapes[] = {{"8B.lm_head", 128256, 4096}, {"70B.lm_head", 128256, 8192}};

// N(0, 1) as 8-bit codes, canonical and packed, and as fp16; copied until they exceed the L2.
struct W8Layer {
  int n, k;
  size_t bytes, dense_bytes;  // of a copy
  int copies;
  DeviceArray<int8_t> codes;
  DeviceArray<float> channel_scales;
  DeviceArray<uint8_t> packed, dense;

  W8Layer(const Shape& shape, bool has_dense, cudaStream_t stream)
      : n(shape.n),
        k(shape.k),
        bytes(packed_weight_bytes(n, k, kUnitBytesW8)),
        dense_bytes(static_cast<size_t>(n) * k * 2),
        copies(copies_of(bytes)),
        codes(static_cast<size_t>(n) * k),
        channel_scales(std::vector<float>(n, 1e-3f)),
        packed(bytes * copies),
        dense(has_dense ? dense_bytes * copies : 0) {
    make_dense(codes.data(), codes.size(), DenseType::s8, 1);
    if (has_dense) make_dense(dense.data(), dense.size() / 2, DenseType::f16, 2);
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
    for (int i = 0; i < copies; ++i) pack_w8_sm90({n, k, codes.data(), nullptr}, packed.data() + i * bytes, stream);
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
  }
  PackedWeights copy(int i) const { return {packed.data() + bytes * (i % copies), bytes, n, k}; }
};

class LmHeadBench : KernelBench {
 public:
  LmHeadBench(const api::BenchGemmOptions& options, const Report& report) : KernelBench(options, report) {
    if (options.baselines) dense_ = load_cublas(options.cublas_folder, stream_);
  }

  int64_t run() {
    for (const Shape& shape : kShapes) {
      const W8Layer layer(shape, dense_ != nullptr, stream_);
      for (const int m : options_.tokens) {
        run_point(shape, layer, m);
        save();
      }
    }
    return num_wrong_;
  }

 private:
  void run_point(const Shape& shape, const W8Layer& layer, int m) {
    const GemmProblem p{m, shape.n, shape.k, 0, GemmOutput::bf16};
    std::vector<GemmPlan> plans = {plan_gemm_w8a8_sm90(p, sms_, Front::gemm)};
    if (options_.sweep) {
      for (const GemmPlan& plan : candidate_plans(p, w8a8_tiles_sm90(), sms_)) plans.push_back(plan);
      if (m <= kMaxGemvTokens) plans.insert(plans.end(), {gemv_plan(p, sms_, 1), gemv_plan(p, sms_, 2)});
    }
    std::vector<Acts> acts;
    for (const ActLayout layout : {ActLayout::tiles_sm90, ActLayout::fragments_sm90})
      if (layout == ActLayout::tiles_sm90 || m <= kMaxGemvTokens)
        acts.emplace_back(m, shape.k, layout).fill(Regions(shape.k, 0));
    const Scratch scratch(plans);
    const DeviceArray<uint8_t> d(static_cast<size_t>(m) * shape.n * 2), x(static_cast<size_t>(m) * shape.k * 2);
    const DeviceArray<uint32_t> words(64 * static_cast<size_t>(sms_));
    make_dense(x.data(), x.size() / 2, DenseType::f16, 3);
    COMET_CUDA_CHECK(cudaDeviceSynchronize());

    const auto acts_of = [&](const GemmPlan& plan) -> const Acts& {
      return plan.act_layout() == ActLayout::tiles_sm90 ? acts.front() : acts.back();
    };
    const auto launch = [&](const GemmPlan& plan, int i) {
      GemmArgs args;
      args.a = acts_of(plan).args();
      args.b = layer.copy(i);
      args.channel_scales = layer.channel_scales.data();
      args.d = d.data();
      gemm_w8a8_sm90(p, args, plan, scratch.args(), stream_);
    };
    std::vector<Replay> replays;
    int num_wrong = 0;
    for (const GemmPlan& plan : plans) {
      if (options_.check) num_wrong += count_wrong_of(layer, acts_of(plan), d, [&] { launch(plan, 0); });
      replays.push_back({.launch = [&launch, plan](int i) { launch(plan, i); }});
    }
    replays.push_back({.launch = [&](int i) { launch_stream(layer.copy(i), words.data(), sms_, stream_); }});
    if (dense_ != nullptr)
      replays.push_back({.launch = [&](int i) {
        dense_->run(DenseType::f16, x.data(), layer.dense.data() + layer.dense_bytes * (i % layer.copies), d.data(), m,
                    shape.n, shape.k);
      }});
    run_replays(*timer_, replays, {.rounds = options_.rounds, .replay_us = options_.replay_us, .clocks = false});
    tell(shape, layer, m, plans, replays, num_wrong);
    num_wrong_ += num_wrong;
  }

  template <typename Launch>
  int count_wrong_of(const W8Layer& layer, const Acts& acts, const DeviceArray<uint8_t>& d, const Launch& launch) {
    COMET_CUDA_CHECK(cudaMemset(d.data(), 0xff, d.bytes()));
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
    launch();
    COMET_CUDA_CHECK(cudaDeviceSynchronize());
    CheckArgs args{};
    args.codes8 = layer.codes.data();
    args.channel_scales = layer.channel_scales.data();
    args.rows = acts.rows.data(), args.scales = acts.scales.data(), args.factors = acts.factors.data();
    args.d = reinterpret_cast<const uint16_t*>(d.data());
    args.m = acts.m, args.n = layer.n, args.k = layer.k;
    return count_wrong(args);
  }

  void tell(const Shape& shape, const W8Layer& layer, int m, const std::vector<GemmPlan>& plans,
            const std::vector<Replay>& replays, int num_wrong) {
    const double us = replays[0].us, stream_us = replays[plans.size()].us;
    nlohmann::json row = {{"shape", shape.name},
                          {"m", m},
                          {"us", us},
                          {"stream_us", stream_us},
                          {"bytes", layer.bytes},
                          {"num_wrong", num_wrong},
                          {"plan", to_string(plans[0])}};
    std::string line = fmt::format("{:<12} M {:4} {:8.2f} us {:5.2f} TB/s, {:3.0f}% of a bare stream", shape.name, m,
                                   us, static_cast<double>(layer.bytes) / us / 1e6, 100 * stream_us / us);
    if (dense_ != nullptr) {
      row["fp16_us"] = replays.back().us;
      line += fmt::format("; cuBLAS fp16 {:8.2f} us, {:.2f}x", replays.back().us, replays.back().us / us);
    }
    line += fmt::format("; {}", to_string(plans[0]));
    if (num_wrong > 0) line += fmt::format("; WRONG: {} outputs", num_wrong);
    for (size_t i = 1; i < plans.size(); ++i) {
      line += fmt::format("\n    {:8.2f} us  {}", replays[i].us, to_string(plans[i]));
      row["plans"].push_back({{"us", replays[i].us}, {"plan", to_string(plans[i])}});
    }
    result_["lm_head"].push_back(row);
    report_(line);
  }

  int64_t num_wrong_ = 0;
  std::unique_ptr<DenseGemm> dense_;
};

}  // namespace
}  // namespace comet::cuda

comet::api::BenchGemmResult comet::gemm_bench::measure_lm_head(const api::BenchGemmOptions& options,
                                                               const std::function<void(const std::string&)>& report) {
  return {.tables = "", .num_wrong = cuda::LmHeadBench(options, report).run()};
}
