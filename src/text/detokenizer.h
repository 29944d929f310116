// SPDX-License-Identifier: Apache-2.0
// Token ids to text as they come, never half a UTF-8 character.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace comet {

// The pieces that push() and flush() return, put together, are what Tokenizer::decode says of all ids at once.
// Exception: bytes that are no UTF-8 become U+FFFD one by one here, where a byte-fallback tokenizer (Llama 2) gives up
// a whole run. Cost per token does not depend on how many came before. One object per sequence; the tokenizer must
// outlive it.
class Detokenizer {
 public:
  // `context`: the ids before the first pushed one (a prompt, or its last few ids), whose text is not returned. With it
  // a continuation keeps the space it starts with, which a Llama 2 tokenizer drops at the start of a text.
  explicit Detokenizer(const Tokenizer& tokenizer, std::span<const int32_t> context = {}, bool skip_special = true);

  // The text that became certain with `id`: valid UTF-8, may be empty. Throws InvalidInput for an id that is no token.
  std::string push(int32_t id);

  // What was held back; an incomplete character as U+FFFD. Afterwards the object is as after construction without
  // context.
  std::string flush();

 private:
  std::string push_window(int32_t id);

  const Tokenizer* tokenizer_;
  bool skip_special_;
  bool at_start_ = true;  // no text has been seen yet
  std::string pending_;   // start of a UTF-8 character: at most 3 bytes
  // JoinRule::window: ids whose text is still needed, and how many of them had theirs returned.
  std::vector<int32_t> window_;
  size_t num_returned_ = 0;
};

}  // namespace comet
