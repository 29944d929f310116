// SPDX-License-Identifier: Apache-2.0
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <numeric>
#include <random>

#include "kernels_simt/simt.h"

namespace simt {
namespace {

constexpr size_t kStackBytes = 128 << 10;
constexpr int kMostRounds = 2'000'000;

struct Warp {
  uint32_t values[2][32];  // by the parity of the exchange
  int arrived = 0, exchanges = 0;
};
struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  bool is_done = false;
  std::vector<std::function<void()>> open;                // copies since the last commit
  std::deque<std::vector<std::function<void()>>> groups;  // committed
};

std::vector<Fiber> fibers;
std::vector<Warp> warps;
ucontext_t scheduler;
std::function<void()> body_of_thread;
int current, threads_of_cta, arrived, barriers, this_cta, all_ctas;

void yield() { swapcontext(&fibers[current].context, &scheduler); }

void enter() {
  body_of_thread();
  fibers[current].is_done = true;
  yield();
}

}  // namespace

Index thread_index() { return {static_cast<unsigned>(current)}; }
Index cta_index() { return {static_cast<unsigned>(this_cta)}; }
Index num_ctas() { return {static_cast<unsigned>(all_ctas)}; }
Index num_threads() { return {static_cast<unsigned>(threads_of_cta)}; }

void sync_cta() {
  const int barrier = barriers;
  if (++arrived == threads_of_cta)
    arrived = 0, ++barriers;
  else
    while (barriers == barrier) yield();
}

const uint32_t* exchange(uint32_t value) {
  Warp& warp = warps[current / 32];
  const int exchange = warp.exchanges;
  warp.values[exchange % 2][current % 32] = value;
  if (++warp.arrived == 32)
    warp.arrived = 0, ++warp.exchanges;
  else
    while (warp.exchanges == exchange) yield();
  return warp.values[exchange % 2];
}

void copy_async(std::function<void()> copy) { fibers[current].open.push_back(std::move(copy)); }
void commit_copies() {
  fibers[current].groups.push_back(std::move(fibers[current].open));
  fibers[current].open.clear();
}
void wait_copies(size_t most_pending) {
  auto& groups = fibers[current].groups;
  for (; groups.size() > most_pending; groups.pop_front())
    for (const auto& copy : groups.front()) copy();
}

void run_cta(int cta, int ctas, int threads, const std::function<void()>& body) {
  static std::mt19937 rng(1);
  this_cta = cta, all_ctas = ctas, threads_of_cta = threads, body_of_thread = body, arrived = 0;
  if (fibers.size() < static_cast<size_t>(threads)) fibers = std::vector<Fiber>(threads);
  warps.assign(threads / 32, {});
  for (int i = 0; i < threads; ++i) {
    Fiber& f = fibers[i];
    f.is_done = false, f.open.clear(), f.groups.clear();
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.get(), f.context.uc_stack.ss_size = kStackBytes;
    f.context.uc_link = nullptr;
    makecontext(&f.context, enter, 0);
  }
  std::vector<int> order(threads / 32);
  std::iota(order.begin(), order.end(), 0);
  int left = threads;
  for (int round = 0; left > 0; ++round) {
    if (round == kMostRounds) std::fprintf(stderr, "threads of a CTA wait for each other\n"), std::abort();
    std::shuffle(order.begin(), order.end(), rng);
    for (const int warp : order)
      for (int turns = 1 + static_cast<int>(rng() % 40); turns > 0; --turns)  // some warps run ahead
        for (int i = warp * 32; i < warp * 32 + 32; ++i) {
          if (fibers[i].is_done) continue;
          current = i;
          swapcontext(&scheduler, &fibers[i].context);
          left -= fibers[i].is_done;
        }
  }
}

}  // namespace simt
