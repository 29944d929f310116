// SPDX-License-Identifier: Apache-2.0
// Token ids to text as they come, never half a UTF-8 character.
#include "text/detokenizer.h"

#include <algorithm>
#include <utility>

#include "text/utf8.h"

namespace comet {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
constexpr size_t kContext = 8;                             // ids before a new one that a decoder may look at
constexpr size_t kMaxHeld = 16;  // tokens without text in a row before they are given up: no character has more

}  // namespace

Detokenizer::Detokenizer(const Tokenizer& tokenizer, std::span<const int32_t> context, bool skip_special)
    : tokenizer_(&tokenizer), skip_special_(skip_special) {
  if (tokenizer.decoder_rules().join != JoinRule::window) {
    for (int32_t id : context) push(id);
    return;
  }
  for (int32_t id : context) {
    if (!(skip_special && tokenizer.is_special(id))) window_.push_back(id);
  }
  window_.erase(window_.begin(), window_.end() - static_cast<std::ptrdiff_t>(std::min(kContext, window_.size())));
  num_returned_ = window_.size();
}

std::string Detokenizer::push(int32_t id) {
  if (skip_special_ && tokenizer_->is_special(id)) return {};
  const DecoderRules& rules = tokenizer_->decoder_rules();
  if (rules.join == JoinRule::window) return push_window(id);
  std::string bytes = tokenizer_->token_bytes(id);
  const bool is_first = std::exchange(at_start_, at_start_ && bytes.empty());
  if (is_first && rules.join == JoinRule::drop_leading && bytes.starts_with(' ')) {
    bytes = tokenizer_->decode(std::span(&id, 1), false);
  }
  pending_ += bytes;
  return take_valid_utf8(pending_);
}

// The text of the window with the new tokens, less its text without them.
std::string Detokenizer::push_window(int32_t id) {
  window_.push_back(id);
  const size_t num_new = window_.size() - num_returned_;
  const std::string before = tokenizer_->decode(std::span(window_).first(num_returned_), false);
  const std::string all = tokenizer_->decode(window_, false);
  const bool grown = all.size() > before.size() && !all.ends_with(kReplacement);
  if (!grown && num_new < kMaxHeld) return {};
  window_.erase(window_.begin(), window_.end() - static_cast<std::ptrdiff_t>(std::min(num_new, kContext)));
  num_returned_ = window_.size();
  return to_valid_utf8(all.substr(std::min(before.size(), all.size())));
}

std::string Detokenizer::flush() {
  std::string text = to_valid_utf8(pending_);
  if (num_returned_ < window_.size()) {
    const std::string before = tokenizer_->decode(std::span(window_).first(num_returned_), false);
    const std::string all = tokenizer_->decode(window_, false);
    text += to_valid_utf8(all.substr(std::min(before.size(), all.size())));
  }
  pending_.clear();
  window_.clear();
  num_returned_ = 0;
  at_start_ = true;
  return text;
}

}  // namespace comet
