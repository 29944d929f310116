// SPDX-License-Identifier: Apache-2.0
// Measured points, made up, and a meter that makes them.
#pragma once

#include <functional>

#include "bench/gemm/meter.h"

namespace comet::gemm_bench {

inline Machine test_machine() {
  return {.gpu = "GPU of tests",
          .driver = "1.2.3",
          .sms = 100,
          .cuda_driver = 13000,
          .copy_tb_per_s = 4,
          .int8_tops = 2000};
}

// Ours takes 10 us; fp16 as many times as long as `speedup` says, fused half of that.
inline Point make_point(const std::string& shape, int m, int share4, double speedup) {
  Point p{.shape = shape, .m = m, .n = 4096, .k = 4096, .share4 = share4, .us = 10, .mhz = 1980, .plan = "a plan"};
  p.beside["fp16"] = {10 * speedup, 10, 1900, 1910};
  p.beside["fused"] = {12 * speedup / 2, 12, 1900, 1910};
  return p;
}

class FakeMeter : public Meter {
 public:
  std::vector<Point> asked;
  Machine described = test_machine();
  std::function<void()> on_measure = [] {};
  int num_wrong = 0;

  const Machine& machine() const override { return described; }
  Point measure(const Shape& shape, int m, int share4) override {
    on_measure();
    Point p = make_point(shape.name, m, share4, 2);
    p.n = shape.n, p.k = shape.k, p.num_wrong = num_wrong;
    asked.push_back(p);
    return p;
  }
};

}  // namespace comet::gemm_bench
