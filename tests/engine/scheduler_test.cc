// SPDX-License-Identifier: Apache-2.0
#include "engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "base/check.h"

namespace comet {

bool operator==(const Chunk& a, const Chunk& b) {
  return std::tie(a.seq, a.first, a.count, a.samples) == std::tie(b.seq, b.first, b.count, b.samples);
}
void PrintTo(const Chunk& c, std::ostream* out) {
  *out << "seq " << c.seq << " [" << c.first << " + " << c.count << (c.samples ? ") samples" : ")");
}

namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int32_t kEos = 2;
constexpr int32_t kWord = 5;

SchedulerOptions small() {
  return {.num_kv_blocks = 16,
          .block_size = 4,
          .max_model_len = 64,
          .max_batch_tokens = 32,
          .max_batch_seqs = 4,
          .eos_token_ids = {kEos}};
}

SequenceSpec spec(int num_prompt, std::optional<int> max_tokens = {}, int priority = 0) {
  return {.prompt = std::vector<int32_t>(static_cast<size_t>(num_prompt), 1),
          .params = {.max_tokens = max_tokens},
          .priority = priority};
}

// Runs the step as a model that always says `token`.
std::vector<SeqId> commit(Scheduler& s, const Step& step, int32_t token = kWord) {
  const std::vector<SeqId> finished = s.commit(step, std::vector<int32_t>(step.chunks.size(), token));
  s.check_integrity();
  return finished;
}

std::vector<Chunk> run_step(Scheduler& s) {
  const Step step = s.schedule();
  commit(s, step);
  return step.chunks;
}

template <typename F>
std::string message_of(F f) {
  try {
    f();
  } catch (const InvalidInput& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Scheduler, PrefillThenDecodeUntilMaxTokens) {
  Scheduler s(small());
  EXPECT_TRUE(s.schedule().empty());
  const SeqId a = s.add(spec(5, 3));
  EXPECT_EQ(s.num_waiting(), 1);
  EXPECT_THAT(run_step(s), ElementsAre(Chunk{a, 0, 5, true}));
  EXPECT_EQ(s.num_running(), 1);
  EXPECT_THAT(run_step(s), ElementsAre(Chunk{a, 5, 1, true}));
  const Step last = s.schedule();
  EXPECT_THAT(last.chunks, ElementsAre(Chunk{a, 6, 1, true}));
  EXPECT_THAT(commit(s, last), ElementsAre(a));
  EXPECT_FALSE(s.has_work());
  EXPECT_EQ(s.blocks().num_used(), 0);
  const Sequence done = s.take(a);
  EXPECT_EQ(done.finish_reason, FinishReason::length);
  EXPECT_THAT(done.output(), ElementsAre(kWord, kWord, kWord));
  EXPECT_EQ(done.prompt().size(), 5u);
  EXPECT_FALSE(s.contains(a));
  EXPECT_THROW(s.sequence(a), Error);
}

TEST(Scheduler, ChunksOfEveryForcedSize) {
  for (const int size : {1, 7, 64, 0}) {
    SchedulerOptions options = small();
    options.max_batch_tokens = 100;
    options.num_kv_blocks = 64;
    options.max_model_len = 200;
    options.max_chunk = size;
    Scheduler s(options);
    const SeqId a = s.add(spec(90, 1));
    int first = 0;
    while (s.has_work()) {
      const int count = std::min(size == 0 ? 90 : size, 90 - first);
      EXPECT_THAT(run_step(s), ElementsAre(Chunk{a, first, count, first + count == 90})) << size;
      first += count;
    }
    EXPECT_EQ(first, 90);
  }
}

TEST(Scheduler, DecodesComeFirstAndALongPromptTakesOnlyWhatTheyLeave) {
  SchedulerOptions options = small();
  options.max_batch_tokens = 8;
  Scheduler s(options);
  const SeqId a = s.add(spec(2)), b = s.add(spec(3));
  EXPECT_THAT(run_step(s), ElementsAre(Chunk{a, 0, 2, true}, Chunk{b, 0, 3, true}));
  const SeqId c = s.add(spec(10)), d = s.add(spec(2));
  EXPECT_THAT(run_step(s), ElementsAre(Chunk{a, 2, 1, true}, Chunk{b, 3, 1, true}, Chunk{c, 0, 6, false}));
  EXPECT_THAT(run_step(s),
              ElementsAre(Chunk{a, 3, 1, true}, Chunk{b, 4, 1, true}, Chunk{c, 6, 4, true}, Chunk{d, 0, 2, true}));
  EXPECT_THAT(run_step(s),
              ElementsAre(Chunk{a, 4, 1, true}, Chunk{b, 5, 1, true}, Chunk{c, 10, 1, true}, Chunk{d, 2, 1, true}));
}

TEST(Scheduler, DecodesKeepTheirTokenEvenBehindAPrefill) {
  SchedulerOptions options = small();
  options.max_batch_tokens = 4;
  Scheduler s(options);
  const SeqId a = s.add(spec(1, {}, 1));
  run_step(s);
  const SeqId urgent = s.add(spec(20, {}, 0));
  EXPECT_THAT(run_step(s), ElementsAre(Chunk{a, 1, 1, true}, Chunk{urgent, 0, 3, false}));
}

TEST(Scheduler, EndsWithStopOrLength) {
  struct Case {
    SamplingParams params;
    int32_t token;
    FinishReason reason;
  };
  const Case cases[] = {
      {{}, kEos, FinishReason::stop},
      {{.max_tokens = 1}, kEos, FinishReason::stop},  // stop wins over length
      {{.ignore_eos = true}, kEos, FinishReason::none},
      {{.stop_token_ids = {9, kEos}, .ignore_eos = true}, kEos, FinishReason::stop},
      {{.stop_token_ids = {9}}, 9, FinishReason::stop},
      {{.stop_token_ids = {9}}, 8, FinishReason::none},
      {{.max_tokens = 1}, 8, FinishReason::length},
  };
  for (const Case& c : cases) {
    Scheduler s(small());
    const SeqId a = s.add({.prompt = {1, 1}, .params = c.params});
    commit(s, s.schedule(), c.token);
    EXPECT_EQ(s.sequence(a).finish_reason, c.reason);
    EXPECT_EQ(s.sequence(a).output().back(), c.token);
  }
}

TEST(Scheduler, WithoutMaxTokensTheContextEndsIt) {
  for (const int num_kv_blocks : {16, 5}) {
    SchedulerOptions options = small();
    options.num_kv_blocks = num_kv_blocks;
    options.max_model_len = 30;
    Scheduler s(options);
    EXPECT_EQ(s.context(), num_kv_blocks == 16 ? 30 : 20);
    const SeqId a = s.add(spec(10));
    while (s.has_work()) run_step(s);
    EXPECT_EQ(s.sequence(a).num_tokens(), s.context());
    EXPECT_EQ(s.sequence(a).finish_reason, FinishReason::length);
  }
}

TEST(Scheduler, RefusesWhatCanNeverRun) {
  Scheduler s(small());
  EXPECT_THAT(message_of([&] { s.add(spec(0)); }), HasSubstr("no tokens"));
  EXPECT_THAT(message_of([&] { s.add(spec(64)); }), HasSubstr("64 tokens"));
  EXPECT_THAT(message_of([&] { s.add(spec(60, 5)); }),
              testing::AllOf(HasSubstr("60"), HasSubstr("max_tokens is 5"), HasSubstr("room for 64")));
  EXPECT_EQ(message_of([&] { s.add(spec(60, 4)); }), "accepted");
  EXPECT_EQ(message_of([&] { s.add(spec(63)); }), "accepted");
  EXPECT_THAT(message_of([&] { s.add(spec(1, 2147483647)); }), HasSubstr("2147483647"));
  EXPECT_EQ(s.num_waiting(), 2);
}

TEST(Scheduler, RefusesOptionsOutOfRange) {
  const auto refuse = [](auto set, const char* what) {
    SchedulerOptions options = small();
    set(options);
    EXPECT_THAT(message_of([&] { Scheduler s(options); }), HasSubstr(what));
  };
  refuse([](auto& o) { o.num_kv_blocks = 0; }, "num_kv_blocks is 0");
  refuse([](auto& o) { o.block_size = -1; }, "block_size is -1");
  refuse([](auto& o) { o.max_model_len = 1; }, "max_model_len is 1");
  refuse([](auto& o) { o.max_batch_seqs = 0; }, "max_batch_seqs is 0");
  refuse([](auto& o) { o.max_batch_tokens = 3; }, "max_batch_tokens is 3");
  refuse([](auto& o) { o.max_chunk = -1; }, "max_chunk is -1");
  refuse([](auto& o) { o.preempt_every = -1; }, "preempt_every is -1");
}

TEST(Scheduler, TheYoungestGivesWayWhenBlocksRunOut) {
  SchedulerOptions options = small();
  options.num_kv_blocks = 4;
  options.max_model_len = 16;
  Scheduler s(options);
  const SeqId a = s.add(spec(3)), b = s.add(spec(3));
  run_step(s);  // one kv_block each
  run_step(s);
  run_step(s);  // position 4 and 5: two each
  EXPECT_EQ(s.blocks().num_free(), 0);
  while (s.sequence(a).num_computed < 8) run_step(s);
  const Step step = s.schedule();  // a needs a third one
  EXPECT_THAT(step.preempted, ElementsAre(b));
  EXPECT_THAT(step.chunks, ElementsAre(Chunk{a, 8, 1, true}));
  EXPECT_EQ(s.sequence(b).state, SeqState::waiting);
  EXPECT_EQ(s.sequence(b).num_computed, 0);
  EXPECT_EQ(s.sequence(b).num_tokens(), 9) << "keeps its output";
  commit(s, step);
  while (s.sequence(a).state != SeqState::finished) EXPECT_EQ(run_step(s).size(), 1u);
  EXPECT_THAT(run_step(s), ElementsAre(Chunk{b, 0, 9, true})) << "prompt and output again, then the next token";
  while (s.has_work()) run_step(s);
  EXPECT_EQ(s.sequence(b).num_tokens(), 16);
  EXPECT_EQ(s.sequence(b).num_preemptions, 1);
  EXPECT_EQ(s.num_preemptions(), 1);
}

TEST(Scheduler, TheLastOneStaysWhereItIsUntilItsBlocksAreNeeded) {
  SchedulerOptions options = small();
  options.num_kv_blocks = 3;
  options.max_model_len = 12;
  Scheduler s(options);
  const SeqId a = s.add(spec(2, 5)), b = s.add(spec(2, 6));
  run_step(s);
  run_step(s);
  run_step(s);
  ASSERT_EQ(s.sequence(b).num_computed, 4);
  EXPECT_THAT(run_step(s), ElementsAre(Chunk{a, 4, 1, true})) << "a takes the last kv_block, b stalls";
  EXPECT_EQ(s.sequence(b).state, SeqState::running);
  EXPECT_THAT(run_step(s), ElementsAre(Chunk{a, 5, 1, true}));
  EXPECT_EQ(s.sequence(a).state, SeqState::finished);
  EXPECT_THAT(run_step(s), ElementsAre(Chunk{b, 4, 1, true})) << "nothing was computed twice";
  EXPECT_EQ(s.num_preemptions(), 0);
}

TEST(Scheduler, ANewcomerLeavesEveryOtherABlockToGrow) {
  SchedulerOptions options = small();
  options.num_kv_blocks = 4;
  options.max_model_len = 16;
  Scheduler s(options);
  const SeqId a = s.add(spec(4));
  run_step(s);
  const SeqId b = s.add(spec(8));  // would fit: 1 kv_block held, 1 for a's next token, 2 for b
  EXPECT_THAT(run_step(s), ElementsAre(Chunk{a, 4, 1, true}));
  s.finish(b, FinishReason::cancelled);
  const SeqId c = s.add(spec(4));
  EXPECT_THAT(run_step(s), ElementsAre(Chunk{a, 5, 1, true}, Chunk{c, 0, 4, true}));
}

TEST(Scheduler, NobodyOvertakesTheFirstInTheQueue) {
  SchedulerOptions options = small();
  options.num_kv_blocks = 8;
  options.max_model_len = 32;
  Scheduler s(options);
  const SeqId a = s.add(spec(8, 20));
  run_step(s);
  const SeqId b = s.add(spec(24, 2)), c = s.add(spec(1, 2));
  EXPECT_THAT(run_step(s), ElementsAre(Chunk{a, 8, 1, true})) << "b does not fit, c would";
  s.finish(b, FinishReason::cancelled);
  EXPECT_THAT(run_step(s), ElementsAre(Chunk{a, 9, 1, true}, Chunk{c, 0, 1, true}));
}

TEST(Scheduler, PriorityGoesFirstAndTakesThePlaceOfWorse) {
  SchedulerOptions options = small();
  options.max_batch_seqs = 2;
  Scheduler s(options);
  const SeqId low = s.add(spec(4, {}, 5)), middle = s.add(spec(4, {}, 3));
  run_step(s);
  const SeqId equal = s.add(spec(4, {}, 5)), urgent = s.add(spec(6, {}, -1));
  const Step step = s.schedule();
  EXPECT_THAT(step.preempted, ElementsAre(low));
  EXPECT_THAT(step.chunks, ElementsAre(Chunk{middle, 4, 1, true}, Chunk{urgent, 0, 6, true}));
  commit(s, step);
  EXPECT_THAT(s.schedule().preempted, IsEmpty()) << "equal priority waits";
  EXPECT_EQ(s.sequence(equal).state, SeqState::waiting);
}

TEST(Scheduler, PriorityGetsTheBudgetOfALongPrefill) {
  SchedulerOptions options = small();
  options.max_batch_tokens = 8;
  Scheduler s(options);
  const SeqId low = s.add(spec(30, {}, 5));
  EXPECT_THAT(run_step(s), ElementsAre(Chunk{low, 0, 8, false}));
  const SeqId urgent = s.add(spec(5, {}, 0)), equal = s.add(spec(5, {}, 5));
  EXPECT_THAT(run_step(s), ElementsAre(Chunk{urgent, 0, 5, true}, Chunk{low, 8, 3, false}));
  EXPECT_EQ(s.sequence(equal).state, SeqState::waiting);
}

TEST(Scheduler, NobodyIsPreemptedInVain) {
  SchedulerOptions options = small();
  options.num_kv_blocks = 8;
  options.max_model_len = 32;
  options.max_batch_seqs = 3;
  Scheduler s(options);
  const SeqId first = s.add(spec(20, {}, 0)), low = s.add(spec(2, {}, 5));
  run_step(s);
  EXPECT_EQ(s.sequence(low).state, SeqState::running);
  s.add(spec(20, {}, 1));  // without `low` there would still be too little room
  EXPECT_THAT(run_step(s), ElementsAre(Chunk{first, 20, 1, true}, Chunk{low, 2, 1, true}));
}

TEST(Scheduler, CancelWhileWaitingRunningAndInFlight) {
  Scheduler s(small());
  const SeqId a = s.add(spec(6)), b = s.add(spec(6)), c = s.add(spec(40));
  s.finish(b, FinishReason::cancelled);
  EXPECT_EQ(s.take(b).finish_reason, FinishReason::cancelled);
  const Step step = s.schedule();
  EXPECT_THAT(step.chunks, ElementsAre(Chunk{a, 0, 6, true}, Chunk{c, 0, 26, false}));
  s.finish(a, FinishReason::error);
  s.finish(c, FinishReason::cancelled);
  s.finish(c, FinishReason::stop);  // too late
  s.check_integrity();
  EXPECT_GT(s.blocks().num_used(), 0) << "the step still writes to them";
  EXPECT_THROW(s.take(c), Error);
  EXPECT_THAT(commit(s, step), IsEmpty());
  EXPECT_EQ(s.blocks().num_used(), 0);
  EXPECT_EQ(s.sequence(a).num_output(), 0) << "its token is dropped";
  EXPECT_EQ(s.take(a).finish_reason, FinishReason::error);
  EXPECT_EQ(s.take(c).finish_reason, FinishReason::cancelled);
  const SeqId d = s.add(spec(6));
  run_step(s);
  s.finish(d, FinishReason::stop);
  EXPECT_EQ(s.blocks().num_used(), 0);
  EXPECT_FALSE(s.has_work());
}

TEST(Scheduler, PreemptFromOutsideIsReportedByTheNextStep) {
  Scheduler s(small());
  const SeqId a = s.add(spec(5));
  run_step(s);
  s.preempt(a);
  s.check_integrity();
  EXPECT_THROW(s.preempt(a), Error);
  const Step step = s.schedule();
  EXPECT_THAT(step.preempted, ElementsAre(a));
  EXPECT_THAT(step.chunks, ElementsAre(Chunk{a, 0, 6, true}));
  EXPECT_THROW(s.preempt(a), Error) << "in flight";
  commit(s, step);
  EXPECT_THAT(s.schedule().preempted, IsEmpty());
}

TEST(Scheduler, ForcedPreemptionStillFinishes) {
  SchedulerOptions options = small();
  options.preempt_every = 1;
  options.max_chunk = 1;
  Scheduler s(options);
  const SeqId a = s.add(spec(5, 4));
  int steps = 0;
  for (; s.has_work(); ++steps) run_step(s);
  EXPECT_EQ(s.sequence(a).num_preemptions, 3);
  EXPECT_EQ(steps, 5 + 6 + 7 + 8) << "computed again from the start for every token";
}

TEST(Scheduler, BrokenContractsAreErrors) {
  Scheduler s(small());
  const SeqId a = s.add(spec(5));
  EXPECT_THROW(s.take(a), Error);
  EXPECT_THROW(s.finish(a, FinishReason::none), Error);
  EXPECT_THROW(s.finish(a + 1, FinishReason::cancelled), Error);
  EXPECT_THROW(s.preempt(a), Error);
  const Step step = s.schedule();
  EXPECT_THROW(s.schedule(), Error);
  EXPECT_THROW(s.commit(step, std::vector<int32_t>(2)), Error);
  commit(s, step);
  EXPECT_THROW(s.commit(step, std::vector<int32_t>(1)), Error) << "twice";
}

}  // namespace
}  // namespace comet
