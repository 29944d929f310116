// SPDX-License-Identifier: Apache-2.0
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <numeric>
#include <random>

#include "kernels_simt/simt.h"

namespace simt {
namespace {

constexpr size_t kStackBytes = 128 << 10;
constexpr int kMostRounds = 100'000;

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

struct Named {
  int arrived = 0, phases = 0;
};
struct Mbarrier {
  int arrivals = 0, left = 0;
  int64_t bytes = 0;  // announced and not there
  uint32_t phase = 0;
};
struct BulkCopy {
  uint32_t bar, bytes;
  std::function<void()> copy;
};

std::vector<Fiber> fibers;
std::vector<Warp> warps;
ucontext_t scheduler;
std::function<void()> body_of_thread;
std::map<int, Named> named;
std::map<uint32_t, Mbarrier> mbarriers;
std::vector<BulkCopy> bulk_copies;
std::mt19937 rng(1);
int current, threads_of_cta, arrived, barriers, this_cta, all_ctas;

int waiting;  // lanes of this turn that wait for other warps

void yield() { swapcontext(&fibers[current].context, &scheduler); }

void yield_waiting() {
  ++waiting;
  yield();
}

void enter() {
  body_of_thread();
  fibers[current].is_done = true;
  yield();
}

bool arrive(int id, int count) {
  Named& barrier = named[id];
  if (++barrier.arrived < count) return false;
  barrier.arrived = 0, ++barrier.phases;
  return true;
}

Mbarrier& mbarrier(uint32_t bar) {
  const auto found = mbarriers.find(bar);
  if (found == mbarriers.end()) std::fprintf(stderr, "no mbarrier is initialised there\n"), std::abort();
  return found->second;
}

void finish_phase(Mbarrier& b) {
  if (b.left < 0) std::fprintf(stderr, "too many arrivals at an mbarrier\n"), std::abort();
  if (b.left == 0 && b.bytes == 0) b.left = b.arrivals, b.phase ^= 1;
}

void make_a_copy() {
  if (bulk_copies.empty()) return;
  std::swap(bulk_copies[rng() % bulk_copies.size()], bulk_copies.back());
  const BulkCopy done = std::move(bulk_copies.back());
  bulk_copies.pop_back();
  done.copy();
  Mbarrier& b = mbarrier(done.bar);
  b.bytes -= done.bytes;
  finish_phase(b);
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

void arrive_named(int id, int count) { arrive(id, count); }
void sync_named(int id, int count) {
  const int phase = named[id].phases;
  if (!arrive(id, count))
    while (named[id].phases == phase) yield_waiting();
}
void mbarrier_init(uint32_t bar, int arrivals) { mbarriers[bar] = {arrivals, arrivals}; }
void mbarrier_arrive(uint32_t bar, uint32_t bytes) {
  Mbarrier& b = mbarrier(bar);
  b.bytes += bytes, --b.left;
  finish_phase(b);
}
void mbarrier_wait(uint32_t bar, uint32_t parity) {
  while (mbarrier(bar).phase == parity) {
    if (rng() % 64 == 0) make_a_copy();
    yield_waiting();
  }
}
void mbarrier_wait_briefly(uint32_t bar, uint32_t parity) {
  for (int tries = 0; tries < 4 && mbarrier(bar).phase == parity; ++tries) yield_waiting();
}
void copy_bulk(uint32_t bar, uint32_t bytes, std::function<void()> copy) {
  bulk_copies.push_back({bar, bytes, std::move(copy)});
  if (rng() % 4 == 0) make_a_copy();
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
  named.clear(), mbarriers.clear(), bulk_copies.clear();
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
    if (round == kMostRounds) {
      std::fprintf(stderr, "threads of a CTA wait for each other\n");
      for (const auto& [id, b] : named) std::fprintf(stderr, "named barrier %d: %d arrived\n", id, b.arrived);
      for (const auto& [bar, b] : mbarriers)
        std::fprintf(stderr, "mbarrier %u, phase %u: %d arrivals and %lld bytes left\n", bar, b.phase, b.left,
                     static_cast<long long>(b.bytes));
      std::abort();
    }
    std::shuffle(order.begin(), order.end(), rng);
    for (const int warp : order)
      for (int turns = 1 + static_cast<int>(rng() % 40); turns > 0; --turns) {  // some warps run ahead
        int running = waiting = 0;
        for (int i = warp * 32; i < warp * 32 + 32; ++i) {
          if (fibers[i].is_done) continue;
          ++running, current = i;
          swapcontext(&scheduler, &fibers[i].context);
          left -= fibers[i].is_done;
        }
        if (waiting == running) break;
      }
  }
}

}  // namespace simt
