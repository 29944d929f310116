// SPDX-License-Identifier: Apache-2.0
// Percentiles and goodput.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "comet/bench_serve.h"
#include "loadgen/record.h"

namespace comet::loadgen {

// The p-th percentile (0..100) of ascending values, between neighbours in proportion, as numpy's default does; 0 of
// none.
double percentile(std::span<const double> ascending, double p);

api::BenchDistribution summarize(std::vector<double> values, std::span<const double> percentiles);

// Throws InvalidInput unless the limits are of "ttft", "tpot" and "e2el" and above 0.
void check_goodput(const std::map<std::string, double>& limits_ms);
// Whether a completed request keeps all limits.
bool is_good(const RequestRecord& record, const std::map<std::string, double>& limits_ms);

}  // namespace comet::loadgen
