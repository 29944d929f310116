// SPDX-License-Identifier: Apache-2.0
// Times pieces of work as CUDA graphs, each replayed once a round, in turn.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "bench/gemm/device_array.h"

namespace comet::cuda {

// A timed thing: launch(i) enqueues it once on the i-th copy of its data.
struct Replay {
  std::function<void(int)> launch;
  bool in_order = false;       // a kernel begins when the one in front has ended, whatever its launch allows
  double us = 0.0, mhz = 0.0;  // medians; mhz: of an SM right behind a replay, 0 where not asked for
};

struct ReplayOptions {
  int rounds;
  double replay_us;  // length of a replay
  bool clocks;       // probe the SM clock behind each
};

class ReplayTimer {
 public:
  explicit ReplayTimer(cudaStream_t stream);

  void run(const std::vector<Replay*>& replays, const ReplayOptions& options);

 private:
  double time_us(const std::function<void()>& work);
  double sm_mhz();

  cudaStream_t stream_;
  cudaEvent_t begin_, end_;
  DeviceArray<uint64_t> probe_ = DeviceArray<uint64_t>(2);
};

// The same for a vector of what derives from Replay.
template <typename T>
void run_replays(ReplayTimer& timer, std::vector<T>& candidates, const ReplayOptions& options) {
  std::vector<Replay*> replays;
  for (T& c : candidates) replays.push_back(&c);
  timer.run(replays, options);
}

}  // namespace comet::cuda
