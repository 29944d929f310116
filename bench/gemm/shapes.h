// SPDX-License-Identifier: Apache-2.0
// The linear layers that are measured: those of the models of COMET's figure 9, or any other.
#pragma once

#include <string>
#include <vector>

namespace comet::gemm_bench {

struct Shape {
  std::string name{};  // family.layer, or NxK
  int n = 0, k = 0;
};

// "8B" of "8B.qkv"; an NxK is its own family.
std::string family_of(const std::string& name);

// Each name is a family, `llama3` (8B and 70B), `paper` (all), one layer, or NxK such as 6144x4096; a shape that is
// asked for twice is there once. Throws InvalidInput for others, with what there is.
std::vector<Shape> resolve_shapes(const std::vector<std::string>& names);

}  // namespace comet::gemm_bench
