// SPDX-License-Identifier: Apache-2.0
#include "frontend/stop_strings.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace comet {
namespace {

constexpr size_t kMaxStops = 64, kMaxStopBytes = 4096;

}  // namespace

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  if (stops_.size() > kMaxStops) throw_invalid("stop: {} strings, at most {}", stops_.size(), kMaxStops);
  for (const std::string& s : stops_)
    if (s.empty() || s.size() > kMaxStopBytes)
      throw_invalid("stop: a string of {} bytes, expected 1..{}", s.size(), kMaxStopBytes);
}

StopStrings::Found StopStrings::push(const std::string& piece) {
  held_ += piece;
  Found found;
  size_t first = std::string::npos;
  for (const std::string& stop : stops_)
    if (const size_t at = held_.find(stop); at < first) {
      first = at;
      found.match = stop;
    }
  if (first != std::string::npos) {
    found.text = held_.substr(0, first);
    found.stopped = true;
    held_.clear();
    return found;
  }
  size_t keep = 0;  // longest end of held_ that begins a stop string
  for (const std::string& stop : stops_)
    for (size_t n = std::min(held_.size(), stop.size() - 1); n > keep; --n)
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) keep = n;
  found.text = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return found;
}

std::string StopStrings::flush() { return std::exchange(held_, {}); }

}  // namespace comet
