// SPDX-License-Identifier: Apache-2.0
#include "loadgen/trace.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "base/check.h"
#include "loadgen/random.h"

namespace comet::loadgen {
namespace {

constexpr std::string_view kAzureHead = "TIMESTAMP,ContextTokens,GeneratedTokens";
constexpr int kMaxLength = 1 << 24;  // tokens of a request; more is a broken line
enum Purpose : uint64_t { kAzurePrompt = 0x617a, kMooncakeHash = 0x6d6f };

// Reads the lines of a trace and says where one is bad.
class Lines {
 public:
  Lines(std::istream& in, const TraceOptions& options) : in_(in), options_(options) {}

  // The next line that is not empty, without its end.
  bool next() {
    while (std::getline(in_, line_)) {
      ++number_;
      while (!line_.empty() && (line_.back() == '\r' || line_.back() == ' ')) line_.pop_back();
      if (!line_.empty()) return true;
    }
    return false;
  }
  const std::string& line() const { return line_; }
  [[noreturn]] void fail(const std::string& expected) const {
    constexpr size_t kShown = 80;
    const std::string shown = line_.size() > kShown ? line_.substr(0, kShown) + ".." : line_;
    throw_invalid("{}:{}: expected {}, found \"{}\"", options_.name, std::max(number_, 1), expected, shown);
  }

 private:
  std::istream& in_;
  const TraceOptions& options_;
  std::string line_;
  int number_ = 0;
};

std::optional<int> parse_length(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1 || value > kMaxLength) return {};
  return value;
}

// `width` digits at the beginning of `text`, then one of `ends` ('\0': none); both are taken away.
std::optional<int> take_digits(std::string_view& text, size_t width, std::string_view ends) {
  int value = 0;
  if (text.size() < width + (ends.empty() ? 0 : 1)) return {};
  const auto [end, error] = std::from_chars(text.data(), text.data() + width, value);
  if (error != std::errc() || end != text.data() + width || value < 0) return {};
  text.remove_prefix(width);
  if (ends.empty()) return value;
  if (ends.find(text.front()) == std::string_view::npos) return {};
  text.remove_prefix(1);
  return value;
}

// Seconds of "2023-11-16 18:15:46.6805900", with or without the fraction and +00:00.
std::optional<double> parse_time(std::string_view text) {
  if (text.ends_with("+00:00")) text.remove_suffix(6);
  const auto year = take_digits(text, 4, "-"), month = take_digits(text, 2, "-"), day = take_digits(text, 2, " T");
  const auto hour = take_digits(text, 2, ":"), minute = take_digits(text, 2, ":"), second = take_digits(text, 2, "");
  if (!year || !month || !day || !hour || !minute || !second) return {};
  const std::chrono::year_month_day date{std::chrono::year(*year), std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok() || *hour > 23 || *minute > 59 || *second > 60) return {};
  double fraction = 0;
  if (!text.empty()) {
    const bool is_fraction = text.size() > 1 && text[0] == '.' &&
                             std::all_of(text.begin() + 1, text.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!is_fraction) return {};
    fraction = std::stod("0" + std::string(text));
  }
  const auto days = std::chrono::sys_days(date).time_since_epoch().count();
  return static_cast<double>(days) * 86400 + *hour * 3600 + *minute * 60 + *second + fraction;
}

// n / divisor upwards: what was not empty stays so.
int divide(int n, int divisor) { return (n + divisor - 1) / divisor; }

bool is_full(const std::vector<Request>& requests, const TraceOptions& o) {
  return o.max_requests > 0 && requests.size() >= static_cast<size_t>(o.max_requests);
}

// In the order of their times, which begin at 0 and pass at the wanted speed.
void settle(std::vector<Request>& requests, const TraceOptions& o) {
  if (requests.empty()) throw_invalid("{}: no requests in it", o.name);
  std::stable_sort(requests.begin(), requests.end(),
                   [](const Request& a, const Request& b) { return a.planned_s < b.planned_s; });
  const double first = requests.front().planned_s;
  for (Request& r : requests) r.planned_s = std::isfinite(o.speed) ? (r.planned_s - first) / o.speed : 0;
}

std::ifstream open(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw_invalid("cannot open the trace {}: {}", file, std::strerror(errno));
  return in;
}

TraceOptions trace_options(const api::BenchServeOptions& o) {
  return {.name = o.trace_file,
          .speed = o.trace_speed,
          .divisor = o.length_divisor,
          .max_requests = o.max_requests,
          .seed = o.seed};
}

Request parse_mooncake_line(const Lines& lines, const TraceOptions& o) {
  const nlohmann::json json = nlohmann::json::parse(lines.line(), nullptr, false);
  if (!json.is_object()) lines.fail("a JSON object");
  const auto length = [&](const char* name) {
    const auto it = json.find(name);
    const bool is_good = it != json.end() && it->is_number_integer() && *it >= 1 && *it <= kMaxLength;
    if (!is_good) lines.fail(fmt::format("\"{}\" to be a whole number from 1", name));
    return it->get<int>();
  };
  const auto time = json.find("timestamp");
  if (time == json.end() || !time->is_number() || *time < 0) lines.fail("\"timestamp\" to be milliseconds from 0");
  const int input = length("input_length"), output = length("output_length");
  const auto ids = json.find("hash_ids");
  if (ids == json.end() || !ids->is_array()) lines.fail("\"hash_ids\" to be a list of whole numbers");
  const int num_blocks = divide(input, kMooncakeBlock);
  if (ids->size() != static_cast<size_t>(num_blocks))
    lines.fail(fmt::format("{} hash_ids for {} tokens, one for each {}", num_blocks, input, kMooncakeBlock));
  Request r{.planned_s = time->get<double>() / 1000, .output_len = divide(output, o.divisor), .segments = {}};
  int left = divide(input, o.divisor);
  for (const auto& id : *ids) {
    if (!id.is_number_integer() || id < 0) lines.fail("\"hash_ids\" to be a list of whole numbers from 0");
    const int n = std::min(left, kMooncakeBlock / o.divisor);
    // Not the seed's business: the same id is the same text in every run.
    r.segments.push_back({mix(kMooncakeHash, id.get<uint64_t>()), n});
    left -= n;
  }
  return r;
}

}  // namespace

std::vector<Request> parse_azure_trace(std::istream& in, const TraceOptions& o) {
  Lines lines(in, o);
  if (!lines.next() || lines.line() != kAzureHead) lines.fail(fmt::format("the head {}", kAzureHead));
  std::vector<Request> out;
  while (!is_full(out, o) && lines.next()) {
    const std::string_view line = lines.line();
    const size_t first = line.find(','), second = first == line.npos ? line.npos : line.find(',', first + 1);
    if (second == line.npos) lines.fail("three fields TIMESTAMP,ContextTokens,GeneratedTokens");
    const auto time = parse_time(line.substr(0, first));
    const auto input = parse_length(line.substr(first + 1, second - first - 1)),
               output = parse_length(line.substr(second + 1));
    if (!time) lines.fail("a time like 2023-11-16 18:15:46.6805900");
    if (!input || !output) lines.fail("numbers of tokens from 1");
    out.push_back({.planned_s = *time,
                   .output_len = divide(*output, o.divisor),
                   .segments = {{mix(mix(o.seed, kAzurePrompt), out.size()), divide(*input, o.divisor)}}});
  }
  settle(out, o);
  return out;
}

std::vector<Request> parse_mooncake_trace(std::istream& in, const TraceOptions& o) {
  if (o.divisor < 1 || kMooncakeBlock % o.divisor != 0)
    throw_invalid("--length-divisor is {}, expected a divisor of {}: a hash id stands for so many tokens", o.divisor,
                  kMooncakeBlock);
  Lines lines(in, o);
  std::vector<Request> out;
  while (!is_full(out, o) && lines.next()) out.push_back(parse_mooncake_line(lines, o));
  settle(out, o);
  return out;
}

std::vector<Request> read_azure_trace(const api::BenchServeOptions& o) {
  std::ifstream in = open(o.trace_file);
  return parse_azure_trace(in, trace_options(o));
}

std::vector<Request> read_mooncake_trace(const api::BenchServeOptions& o) {
  std::ifstream in = open(o.trace_file);
  return parse_mooncake_trace(in, trace_options(o));
}

}  // namespace comet::loadgen
