// SPDX-License-Identifier: Apache-2.0
// Server-sent events of a completion, from bytes that come in any pieces.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace comet::loadgen {

class SseParser {
 public:
  // Calls on_event with the data of each event that is complete now, without comments and other fields. Lines end with
  // \n or \r\n. Throws InvalidInput for an event without end.
  template <typename OnEvent>
  void push(std::string_view bytes, const OnEvent& on_event) {
    check_room(bytes.size());
    line_.append(bytes);
    size_t begin = 0;
    for (size_t end; (end = line_.find('\n', begin)) != std::string::npos; begin = end + 1) {
      if (!take_line(std::string_view(line_).substr(begin, end - begin))) continue;
      on_event(std::string_view(data_));
      data_.clear();
      has_data_ = false;
    }
    line_.erase(0, begin);
  }
  bool is_between_events() const { return line_.empty() && !has_data_; }

 private:
  void check_room(size_t more) const;
  // True when an event ends.
  bool take_line(std::string_view line);

  std::string line_, data_;
  bool has_data_ = false;
};

// What one event tells a load generator.
struct Chunk {
  bool has_text = false;     // of a choice: an answer's or a reasoning's
  bool is_finished = false;  // a choice has its finish_reason
  bool has_usage = false;
  int prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
  std::string error_kind, error_message;  // an error event: kind is its code or type
};

// None for what is no JSON object.
std::optional<Chunk> parse_chunk(std::string_view data);

// Code (or type) and message of OpenAI's error object, or of the texts that other servers send; "" where there is none.
struct ErrorText {
  std::string kind, message;
};
ErrorText parse_error(std::string_view body);

}  // namespace comet::loadgen
