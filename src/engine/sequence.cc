// SPDX-License-Identifier: Apache-2.0
#include "engine/sequence.h"

namespace comet {

const char* to_string(SeqState state) {
  switch (state) {
    case SeqState::waiting: return "waiting";
    case SeqState::running: return "running";
    case SeqState::finished: return "finished";
  }
  return "?";
}

const char* to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::none: return "none";
    case FinishReason::stop: return "stop";
    case FinishReason::length: return "length";
    case FinishReason::cancelled: return "cancelled";
    case FinishReason::error: return "error";
  }
  return "?";
}

}  // namespace comet
