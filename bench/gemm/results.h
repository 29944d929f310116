// SPDX-License-Identifier: Apache-2.0
// What was measured, and its JSON: written whole after every point, read again to go on or to draw.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace comet::gemm_bench {

// Two things replayed in turn: theirs, ours beside it. Microseconds; MHz of an SM right behind a replay.
struct Beside {
  double us = 0, ours_us = 0, mhz = 0, ours_mhz = 0;

  double speedup() const { return us / ours_us; }
};

// The things beside: fp16, bf16 (cuBLAS), fp8, int8 (cuBLASLt); fused: RMSNorm + cuBLAS fp16 beside RMSNorm +
// quantize_act + ours.
struct Point {
  std::string shape{};
  int m = 0, n = 0, k = 0;
  int share4 = 0;  // percent of the groups of activations that are 4-bit
  double us = 0, mhz = 0;
  double stream_us = 0;  // reading the weights and nothing else; 0: not measured
  // The fused chain where quantize_act only reads the rows and writes the codes; 0: not measured.
  double fused_move_us = 0;
  std::string plan{};
  std::map<std::string, Beside> beside{};
  int num_wrong = 0;                 // outputs
  std::vector<std::string> notes{};  // lines: what was wrong, what could not be measured
  nlohmann::json sweep{};            // null, or an array of {us, predicted_us, plan, tile_m, ..}

  bool is_same(const Point& o) const { return shape == o.shape && m == o.m && share4 == o.share4; }
};

// The GEMM's main loop alone, for a tile of 128 rows x tile_m tokens: clocks of an SM for a group of 128 channels.
struct LoopRate {
  int tile_m = 0, sides = 1;
  double clocks = 0, tops = 0, mhz = 0;

  double share() const {
    return clocks > 0 ? 4.0 * tile_m / clocks : 0;
  }  // of the tensor cores, 4,096 products a clock
};

struct Machine {
  std::string gpu, driver;  // driver: "" where it is not told
  int sms = 0, cuda_driver = 0;
  double copy_tb_per_s = 0, int8_tops = 0;  // ceilings; 0: not known
  std::vector<LoopRate> loops{};            // empty: not measured
};

struct Results {
  Machine machine{};
  nlohmann::json settings{};            // what points of one file have in common: rounds, replay_us, ..
  std::vector<std::string> commands{};  // whose points these are
  std::vector<Point> points{};

  const Point* find(const Point& like) const;
  int64_t num_wrong() const;
  // Least microseconds of a point: max(bytes / copy bandwidth, operations / int8 ceiling); 0 without ceilings.
  double floor_us(const Point& p) const;
};

// One row a line. Microseconds keep four decimals.
std::string to_text(const Results& results);
// Also takes files with one 4-bit share at the top. Throws InvalidInput, beginning with `file`, for anything else.
Results parse_results(const std::string& text, const std::string& file);
Results read_results(const std::string& file);
// Under a temporary name first: a file of this name is always whole.
void write_whole(const std::string& file, const std::string& text);

// Throws InvalidInput where `old` (of `file`) cannot be continued by `now`: another GPU or driver, other settings.
void check_resumable(const Results& old, const Results& now, const std::string& file);
// Points of `more` replace the same ones of `into`. Throws InvalidInput where they are of different GPUs.
void merge(Results& into, const Results& more, const std::string& file);

}  // namespace comet::gemm_bench
