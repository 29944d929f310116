// SPDX-License-Identifier: Apache-2.0
// The models and prompts whose logits are promised: the bundled model by `rtn`, and a random one with long contexts.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "model/checkpoint.h"

namespace comet::promise {

// COMET_PROMISE=all: the whole matrix instead of the pairs that `make test` has time for (tools/soak.d/30-promise).
bool is_whole_matrix();

// -O0 is some ten times slower: shorter prompts and smaller crowds show the same.
#ifdef __OPTIMIZE__
constexpr bool kIsUnoptimized = false;
#else
constexpr bool kIsUnoptimized = true;
#endif

struct PromiseModel {
  std::string name;
  Checkpoint checkpoint;
  std::vector<std::vector<int32_t>> prompts;  // by rising length
  std::string weights_hash;                   // of model.safetensors; "" where there is no file
};

// Made once in a process: gutenberg-15m W4A8KV4 and W4AxKV4 (n8 = 1 at every site), and random-128 (2 layers, head_dim
// 128).
const std::vector<PromiseModel>& promise_models();

struct BackendChoice {
  std::string name;  // "ref", or an ISA of the CPU backend
  int threads = 1;
};

// Null where this machine lacks the ISA.
std::unique_ptr<Backend> make_backend(const BackendChoice& choice);

}  // namespace comet::promise
