// SPDX-License-Identifier: Apache-2.0
// An engine that runs nothing: it keeps what is submitted, and the fuzzer says what it answers. Linked instead of
// src/engine/engine.cc, so that all in front of the engine is the real thing.
#pragma once

#include <string>
#include <vector>

#include "engine/engine.h"

namespace comet::fuzz {

struct Submitted {
  SequenceSpec spec;
  EventSink sink;
  std::string refusal;  // of the engine's core, after the frontend took it: "" where all is well
};

// Everything since it was last cleared, in order.
std::vector<Submitted>& submitted();

}  // namespace comet::fuzz
