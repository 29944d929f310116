// SPDX-License-Identifier: Apache-2.0
// The scheduler under random loads, against a model that remembers what every slot of every kv_block was written with.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <tuple>

#include "base/check.h"
#include "engine/random.h"
#include "engine/scheduler.h"

namespace comet {
namespace {

constexpr int kVocab = 50;
constexpr int32_t kEos = 0;

// Stands for the device. Its next token is a hash of what it reads from the cache, so a wrong kv_block, a position
// computed twice with other neighbours, or a lost token changes the output.
class FakeModel {
 public:
  explicit FakeModel(const SchedulerOptions& o)
      : block_size_(o.block_size), slots_(static_cast<size_t>(o.num_kv_blocks) * static_cast<size_t>(o.block_size)) {}

  std::vector<int32_t> run(const Scheduler& s, const Step& step) {
    std::vector<int32_t> out;
    for (const Chunk& chunk : step.chunks) {
      const Sequence& seq = s.sequence(chunk.seq);
      uint64_t before = seq.root;
      for (int i = 0; i < chunk.first + chunk.count; ++i) {
        const int32_t token = seq.tokens[static_cast<size_t>(i)];
        if (i >= chunk.first) slot(seq, i) = {before, i, token};
        before = mix(before, token);
      }
    }
    for (const Chunk& chunk : step.chunks) {
      const Sequence& seq = s.sequence(chunk.seq);
      uint64_t hash = seq.seed, before = seq.root;
      for (int i = 0; i < chunk.first + chunk.count; ++i) {
        const Slot& read = slot(seq, i);
        EXPECT_EQ(read, Slot(before, i, seq.tokens[static_cast<size_t>(i)])) << "seq " << chunk.seq << " at " << i;
        before = mix(before, std::get<2>(read));
        hash = mix(hash, std::get<2>(read));
      }
      out.push_back(chunk.samples ? token_of(hash) : -1);
    }
    return out;
  }

  // What a sequence says when it is alone in the world.
  static std::vector<int32_t> alone(const SequenceSpec& spec, int max_len) {
    std::vector<int32_t> tokens = spec.prompt;
    uint64_t hash = spec.seed;
    for (const int32_t token : tokens) hash = mix(hash, token);
    while (static_cast<int>(tokens.size()) < max_len) {
      tokens.push_back(token_of(hash));
      hash = mix(hash, tokens.back());
      if (tokens.back() == kEos && !spec.params.ignore_eos) break;
    }
    return tokens;
  }

 private:
  using Slot = std::tuple<uint64_t, int, int32_t>;  // hash of salt and all tokens before; position, token
  Slot& slot(const Sequence& seq, int position) {
    const int32_t block = seq.block_table.at(static_cast<size_t>(position / block_size_));
    return slots_.at(static_cast<size_t>(block * block_size_ + position % block_size_));
  }
  static uint64_t mix(uint64_t hash, int32_t token) { return random_bits(hash, static_cast<uint32_t>(token), 0); }
  static int32_t token_of(uint64_t hash) { return static_cast<int32_t>(hash % kVocab); }

  int block_size_;
  std::vector<Slot> slots_;
};

struct Load {
  int num_seqs = 60;
  int max_prompt = 60;
  int max_output = 40;
  int num_priorities = 1;
  double arrivals_per_step = 0.5;
  double cancels_per_step = 0;
  double preempts_per_step = 0;
  int num_beginnings = 0;  // prompts that half of the others begin with; 0: none
};

// Runs the load to its end and checks every step.
class Simulation {
 public:
  Simulation(const SchedulerOptions& options, const Load& load, uint32_t seed)
      : options_(options), load_(load), random_(seed), scheduler_(options), model_(options) {}

  void run() {
    int num_added = 0, steps = 0;
    while (num_added < load_.num_seqs || scheduler_.has_work()) {
      for (; num_added < load_.num_seqs && chance(load_.arrivals_per_step); ++num_added) add();
      between(load_.cancels_per_step / 2);
      if (chance(load_.preempts_per_step)) preempt_any();
      step();
      if (testing::Test::HasFatalFailure()) return;
      ASSERT_LT(++steps, 200000) << "never ends";
      now_ = steps;
    }
    ASSERT_EQ(scheduler_.blocks().num_used(), 0);
    ASSERT_EQ(scheduler_.num_waiting() + scheduler_.num_running(), 0);
    ASSERT_EQ(num_taken_, load_.num_seqs) << "every sequence ends once";
    if (load_.preempts_per_step == 0) check_first_come_first_served();
  }

  int64_t num_preemptions() const { return scheduler_.num_preemptions(); }
  int64_t num_cached_tokens() const { return scheduler_.num_cached_tokens(); }
  int num_cancelled() const { return num_cancelled_; }
  int num_stalls() const { return num_stalls_; }

 private:
  struct Record {
    SequenceSpec spec;
    int max_len = 0;
    int computed = 0;  // by our own count
    int prompt_rows = 0;
    int first_step = -1;
    int64_t deadline = 0;  // step by which it must have ended
  };

  bool chance(double p) { return static_cast<double>(random_() % 10000) < p * 10000; }
  int up_to(int n) { return 1 + static_cast<int>(random_() % static_cast<uint32_t>(n)); }

  void add() {
    SequenceSpec spec;
    const int room = scheduler_.context() - 1;
    const int num_prompt = std::min(up_to(load_.max_prompt), room);
    for (int i = 0; i < num_prompt; ++i) spec.prompt.push_back(static_cast<int32_t>(random_() % kVocab));
    if (load_.num_beginnings > 0 && random_() % 2 == 0) {
      std::mt19937 beginning(random_() % static_cast<uint32_t>(load_.num_beginnings));
      for (int i = static_cast<int>(random_() % 3); i < num_prompt * 3 / 4; ++i)
        spec.prompt[static_cast<size_t>(i)] = static_cast<int32_t>(beginning() % kVocab);
      spec.cache_salt = random_() % 4 == 0 ? "salt" : "";
    }
    const int max_tokens = std::min(up_to(load_.max_output), scheduler_.context() - num_prompt);
    if (random_() % 8 != 0) spec.params.max_tokens = max_tokens;
    spec.params.ignore_eos = random_() % 2 == 0;
    spec.seed = random_();
    if (random_() % 4 == 0) spec.prompt_logprobs = 2;
    spec.priority = static_cast<int>(random_() % static_cast<uint32_t>(load_.num_priorities));
    Record record{.spec = spec};
    record.max_len = spec.params.max_tokens ? num_prompt + max_tokens : scheduler_.context();
    const SeqId id = scheduler_.add(spec);
    // The first in order computes at least a token a step and is never preempted, so each one ahead costs its length.
    record.deadline = now_ + record.max_len + 1;
    for (const auto& [other, r] : records_)
      if (live_.count(other) != 0) record.deadline += r.max_len + 1;
    records_[id] = record;
    live_.insert(id);
  }

  void between(double cancel_probability) {
    if (live_.empty() || !chance(cancel_probability)) return;
    const SeqId id = *std::next(live_.begin(), static_cast<std::ptrdiff_t>(random_() % live_.size()));
    if (scheduler_.sequence(id).state == SeqState::finished) return;
    scheduler_.finish(id, FinishReason::cancelled);
    num_cancelled_ += 1;
    cancelled_.insert(id);
  }

  void preempt_any() {
    for (const SeqId id : live_) {
      if (scheduler_.sequence(id).state != SeqState::running || random_() % 3 != 0) continue;
      scheduler_.preempt(id);
      return;
    }
  }

  void step() {
    collect();
    std::set<SeqId> decoding;
    for (const SeqId id : live_) {
      const Sequence& s = scheduler_.sequence(id);
      if (s.state == SeqState::running && s.is_decoding()) decoding.insert(id);
    }
    const Step step = scheduler_.schedule();
    scheduler_.check_integrity();
    ASSERT_EQ(step.empty(), !scheduler_.has_work());
    ASSERT_LE(step.num_tokens(), options_.max_batch_tokens);
    ASSERT_LE(static_cast<int>(step.chunks.size()), options_.max_batch_seqs);
    for (const SeqId id : step.preempted) {
      records_.at(id).computed = 0;
      decoding.erase(id);
    }
    std::set<SeqId> served;
    int num_rows = 0;
    for (const Chunk& chunk : step.chunks) {
      const Sequence& s = scheduler_.sequence(chunk.seq);
      Record& record = records_.at(chunk.seq);
      ASSERT_TRUE(served.insert(chunk.seq).second) << "two chunks in a step";
      ASSERT_GE(chunk.count, 1);
      if (record.computed == 0) {  // begins, maybe behind what was cached
        ASSERT_TRUE(chunk.first == 0 || options_.prefix_cache_seed);
        ASSERT_EQ(chunk.first % options_.block_size, 0);
        record.computed = chunk.first;
      }
      ASSERT_EQ(chunk.first, record.computed) << "positions in order, each once";
      ASSERT_LE(chunk.first + chunk.count, s.num_tokens());
      ASSERT_EQ(chunk.samples, chunk.first + chunk.count == s.num_tokens());
      ASSERT_LE(chunk.count, options_.max_chunk > 0 ? options_.max_chunk : options_.max_batch_tokens);
      num_rows += chunk.num_prompt_rows + (chunk.samples ? 1 : 0);
      if (chunk.num_prompt_rows > 0) {
        ASSERT_EQ(chunk.first_prompt_row, record.prompt_rows) << "each once";
        ASSERT_GE(chunk.first_prompt_row, chunk.first);
        ASSERT_LE(chunk.first_prompt_row + chunk.num_prompt_rows, chunk.first + chunk.count);
        record.prompt_rows += chunk.num_prompt_rows;
      }
      if (chunk.samples) {
        ASSERT_EQ(record.prompt_rows, record.spec.prompt_logprobs ? s.num_prompt - 1 : 0);
      }
      record.computed += chunk.count;
      if (record.first_step < 0) record.first_step = now_;
    }
    if (options_.max_logit_rows > 0) {
      ASSERT_LE(num_rows, options_.max_logit_rows);
    }
    for (const SeqId id : decoding) {
      if (served.count(id) != 0) continue;
      ASSERT_EQ(scheduler_.blocks().num_free(), 0) << "seq " << id << " could have decoded";
      num_stalls_ += 1;
    }
    const std::vector<int32_t> tokens = model_.run(scheduler_, step);
    between(load_.cancels_per_step / 2);
    scheduler_.commit(step, tokens);
    scheduler_.check_integrity();
    collect();
  }

  void collect() {
    for (auto it = live_.begin(); it != live_.end();) {
      const SeqId id = *it;
      if (scheduler_.sequence(id).state != SeqState::finished) {
        ++it;
        continue;
      }
      it = live_.erase(it);
      num_taken_ += 1;
      const Record& record = records_.at(id);
      const Sequence done = scheduler_.take(id);
      const std::vector<int32_t> expected = FakeModel::alone(record.spec, record.max_len);
      if (cancelled_.count(id) != 0) {
        EXPECT_EQ(done.finish_reason, FinishReason::cancelled);
        EXPECT_TRUE(std::equal(done.tokens.begin(), done.tokens.end(), expected.begin())) << "seq " << id;
        continue;
      }
      EXPECT_EQ(done.tokens, expected) << "seq " << id;
      const bool has_stopped = expected.back() == kEos && !record.spec.params.ignore_eos;
      EXPECT_EQ(done.finish_reason, has_stopped ? FinishReason::stop : FinishReason::length);
      EXPECT_TRUE(!is_fair() || now_ <= record.deadline) << "seq " << id << " starved";
    }
  }

  bool is_fair() const {
    return load_.num_priorities == 1 && load_.preempts_per_step == 0 && options_.preempt_every == 0;
  }

  void check_first_come_first_served() const {
    std::map<int, int> latest;  // priority -> first step of the last one that started
    for (const auto& [id, record] : records_) {
      if (record.first_step < 0) continue;        // cancelled before
      if (record.spec.prompt_logprobs) continue;  // it may have to wait for rows of logits
      int& step = latest[record.spec.priority];
      ASSERT_GE(record.first_step, step) << "seq " << id << " overtook";
      step = record.first_step;
    }
  }

  SchedulerOptions options_;
  Load load_;
  std::mt19937 random_;
  Scheduler scheduler_;
  FakeModel model_;
  std::map<SeqId, Record> records_;
  std::set<SeqId> live_, cancelled_;
  int now_ = 0, num_taken_ = 0, num_cancelled_ = 0, num_stalls_ = 0;
};

TEST(SchedulerRandom, EverythingEndsAsIfAlone) {
  std::mt19937 random(31);
  const auto pick = [&](std::initializer_list<int> values) { return values.begin()[random() % values.size()]; };
  int64_t preemptions = 0, cached = 0;
  int cancelled = 0, stalls = 0, sequences = 0;
  for (uint32_t round = 0; round < 150; ++round) {
    SchedulerOptions options;
    options.block_size = pick({1, 3, 4, 16, 64});
    options.max_batch_seqs = pick({1, 2, 5, 16});
    options.max_batch_tokens = options.max_batch_seqs + pick({0, 1, 7, 40, 300});
    options.max_model_len = pick({20, 70, 120});
    // From just enough for one sequence to plenty.
    options.num_kv_blocks =
        (options.max_model_len + options.block_size - 1) / options.block_size * pick({1, 1, 2, 8}) + pick({0, 1});
    options.max_chunk = pick({0, 0, 1, 7, 64});
    if (pick({0, 1}) != 0) options.max_logit_rows = options.max_batch_seqs + pick({1, 5, 64});
    options.preempt_every = pick({0, 0, 0, 2, 5});
    options.eos_token_ids = {kEos};
    if (pick({0, 1}) != 0) options.prefix_cache_seed = round;
    Load load;
    load.num_beginnings = pick({0, 1, 4});
    load.num_priorities = pick({1, 1, 3});
    load.arrivals_per_step = pick({5, 50, 95}) / 100.0;
    load.cancels_per_step = pick({0, 0, 10}) / 100.0;
    load.preempts_per_step = pick({0, 0, 3}) / 100.0;
    SCOPED_TRACE(testing::Message() << "round " << round);
    Simulation simulation(options, load, round);
    simulation.run();
    if (HasFailure()) return;
    preemptions += simulation.num_preemptions();
    cached += simulation.num_cached_tokens();
    cancelled += simulation.num_cancelled();
    stalls += simulation.num_stalls();
    sequences += load.num_seqs;
  }
  // The loads must reach the corners they are meant for.
  EXPECT_GE(sequences, 9000);
  EXPECT_GT(preemptions, 1000);
  EXPECT_GT(cancelled, 300);
  EXPECT_GT(stalls, 100);
  EXPECT_GT(cached, 10000);
}

}  // namespace
}  // namespace comet
