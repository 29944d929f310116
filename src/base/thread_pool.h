// SPDX-License-Identifier: Apache-2.0
// Fork-join pool for data-parallel loops. The calling thread takes part, so `ThreadPool(1)` starts no thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace comet {

// Threads that may run at once here: hardware threads, less what affinity and the cgroup CPU quota take away; >= 1.
int available_threads();

class ThreadPool {
 public:
  // num_threads 0: available_threads().
  explicit ThreadPool(int num_threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(begin, end, thread) for disjoint ranges that cover [0, count), each at most `grain` long, and returns
  // when all are done; thread is in 0..num_threads()-1 and no two calls with one thread index overlap. The first
  // exception of a body is rethrown here. Calls from one thread at a time; not from inside a body.
  void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t, int)>& body);

 private:
  void work(int thread);
  void run_ranges(int thread);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable start_, done_;
  const std::function<void(int64_t, int64_t, int)>* body_ = nullptr;
  int64_t count_ = 0, grain_ = 1;
  std::atomic<int64_t> next_{0};
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> pending_{0};
  bool stop_ = false;
  std::exception_ptr error_;
};

}  // namespace comet
