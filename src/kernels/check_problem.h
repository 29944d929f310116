// SPDX-License-Identifier: Apache-2.0
// The entrance checks of every backend: shapes in symbols, both values in the message.
#pragma once

#include <string>

#include "kernels/attention.h"
#include "kernels/gemm.h"
#include "kernels/quantize_act.h"

namespace comet {

std::string to_string(const QuantizeActProblem& p);
std::string to_string(const GemmProblem& p);
std::string to_string(const RopeAppendProblem& p);
std::string to_string(const AttentionProblem& p);

// Each throws Error with the problem in its text when a backend could not run it.
void check_problem(const QuantizeActProblem& p, const QuantizeActArgs& args);
void check_problem(const GemmProblem& p, const GemmArgs& args);
void check_problem(const GemmProblem& p, const GemmW16Args& args);
void check_problem(const RopeAppendProblem& p, const RopeAppendArgs& args);
void check_problem(const AttentionProblem& p, const AttentionArgs& args);

}  // namespace comet
