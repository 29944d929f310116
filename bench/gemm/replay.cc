// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm/replay.h"

#include <algorithm>

#include "bench/gemm/data.h"

namespace comet::cuda {
namespace {

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// A replay's graph and what it took.
struct Recorded {
  cudaGraphExec_t graph = nullptr;
  int launches = 0;
  std::vector<double> us, mhz;
};

// Waits for the end of a kernel where the launch was satisfied with its trigger.
void wait_for_ends(cudaGraph_t graph) {
  size_t count = 0;
  COMET_CUDA_CHECK(cudaGraphGetNodes(graph, nullptr, &count));  // in a row: more than edges
  std::vector<cudaGraphNode_t> from(count), to(count);
  std::vector<cudaGraphEdgeData> edges(count);
  COMET_CUDA_CHECK(cudaGraphGetEdges(graph, from.data(), to.data(), edges.data(), &count));
  COMET_CUDA_CHECK(cudaGraphRemoveDependencies(graph, from.data(), to.data(), edges.data(), count));
  COMET_CUDA_CHECK(cudaGraphAddDependencies(graph, from.data(), to.data(), nullptr, count));
}

}  // namespace

ReplayTimer::ReplayTimer(cudaStream_t stream) : stream_(stream) {
  COMET_CUDA_CHECK(cudaEventCreate(&begin_));
  COMET_CUDA_CHECK(cudaEventCreate(&end_));
}

double ReplayTimer::time_us(const std::function<void()>& work) {
  COMET_CUDA_CHECK(cudaEventRecord(begin_, stream_));
  work();
  COMET_CUDA_CHECK(cudaEventRecord(end_, stream_));
  COMET_CUDA_CHECK(cudaEventSynchronize(end_));
  float ms = 0.0f;
  COMET_CUDA_CHECK(cudaEventElapsedTime(&ms, begin_, end_));
  return ms * 1e3;
}

// The clock follows power in milliseconds: a probe right behind a replay sees the replay's.
double ReplayTimer::sm_mhz() {
  launch_clock_probe(probe_.data(), stream_);
  COMET_CUDA_CHECK(cudaStreamSynchronize(stream_));
  const std::vector<uint64_t> v = probe_.to_host();
  return 1e3 * static_cast<double>(v[0]) / static_cast<double>(v[1]);
}

void ReplayTimer::run(const std::vector<Replay*>& replays, const ReplayOptions& options) {
  std::vector<Recorded> recorded(replays.size());
  for (size_t i = 0; i < replays.size(); ++i) {
    const auto& launch = replays[i]->launch;
    launch(0);
    const double guess = std::max(2.0, time_us([&] {
                                         for (int copy = 0; copy < 4; ++copy) launch(copy);
                                       }) / 4);
    Recorded& r = recorded[i];
    r.launches = static_cast<int>(std::clamp(options.replay_us / guess, 6.0, 400.0));
    cudaGraph_t graph;
    COMET_CUDA_CHECK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    for (int copy = 0; copy < r.launches; ++copy) launch(copy);
    COMET_CUDA_CHECK(cudaStreamEndCapture(stream_, &graph));
    if (replays[i]->in_order) wait_for_ends(graph);
    COMET_CUDA_CHECK(cudaGraphInstantiate(&r.graph, graph, 0));
    COMET_CUDA_CHECK(cudaGraphDestroy(graph));
    COMET_CUDA_CHECK(cudaGraphLaunch(r.graph, stream_));
  }
  for (int round = 0; round < options.rounds; ++round)
    for (Recorded& r : recorded) {
      r.us.push_back(time_us([&] { COMET_CUDA_CHECK(cudaGraphLaunch(r.graph, stream_)); }) / r.launches);
      if (options.clocks) r.mhz.push_back(sm_mhz());
    }
  for (size_t i = 0; i < replays.size(); ++i) {
    replays[i]->us = median(recorded[i].us);
    if (options.clocks) replays[i]->mhz = median(recorded[i].mhz);
    COMET_CUDA_CHECK(cudaGraphExecDestroy(recorded[i].graph));
  }
}

}  // namespace comet::cuda
