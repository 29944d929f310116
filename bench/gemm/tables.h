// SPDX-License-Identifier: Apache-2.0
// Results as text: a line while a point is new, tables of all in the end.
#pragma once

#include <string>

#include "bench/gemm/results.h"

namespace comet::gemm_bench {

// Ends without a newline; notes and, of a sweep, its plans follow on lines of their own.
std::string point_line(const Results& results, const Point& point);

// For each 4-bit share microseconds, speed-ups, fraction of the roofline by shape and M; then the means by range.
std::string format_tables(const Results& results);

}  // namespace comet::gemm_bench
