// SPDX-License-Identifier: Apache-2.0
// Typed reads from JSON with errors that say file, key, what was expected and what was there.
#pragma once

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/mapped_file.h"
#include "base/nearest_name.h"

namespace comet {

// Throws InvalidInput for a file that cannot be read or is no JSON.
inline nlohmann::json read_json(const std::filesystem::path& file) {
  constexpr int kMaxDepth = 100;  // copying and writing are recursive
  const auto check_depth = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > kMaxDepth) throw_invalid("{}: nested deeper than {} levels", file.string(), kMaxDepth);
    return true;
  };
  nlohmann::json parsed = nlohmann::json::parse(read_file(file, size_t{64} << 20), check_depth, false);
  if (parsed.is_discarded()) throw_invalid("{}: not valid JSON", file.string());
  return parsed;
}

class JsonFields {
 public:
  JsonFields(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) throw_invalid("{}: expected a JSON object", where_);
  }

  bool has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }
  bool is_null(const char* key) const { return object_.contains(key) && object_[key].is_null(); }
  const nlohmann::json& raw(const char* key) const { return object_[key]; }
  const std::string& where() const { return where_; }

  int integer(const char* key, int64_t low, int64_t high) const {
    require(key);
    const nlohmann::json& v = object_[key];
    if (!v.is_number_integer() || v.get<int64_t>() < low || v.get<int64_t>() > high ||
        (v.is_number_unsigned() && v.get<uint64_t>() > uint64_t(high)))
      fail(key, fmt::format("an integer in {}..{}", low, high));
    return static_cast<int>(v.get<int64_t>());
  }
  int integer(const char* key, int64_t low, int64_t high, int otherwise) const {
    return has(key) ? integer(key, low, high) : otherwise;
  }

  double number(const char* key, double low, double high) const {
    require(key);
    const nlohmann::json& v = object_[key];
    if (!v.is_number() || !(v.get<double>() >= low && v.get<double>() <= high))
      fail(key, fmt::format("a number in {}..{}", low, high));
    return v.get<double>();
  }
  double number(const char* key, double low, double high, double otherwise) const {
    return has(key) ? number(key, low, high) : otherwise;
  }

  bool boolean(const char* key, bool otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_[key].is_boolean()) fail(key, "true or false");
    return object_[key].get<bool>();
  }

  std::string text(const char* key, const std::string& otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_[key].is_string()) fail(key, "a string");
    return object_[key].get<std::string>();
  }

  // Throws for a key that is not one of `known`: these are our own files, where a typing error must not pass silently.
  void allow_only(const std::vector<std::string>& known) const {
    for (const auto& [key, value] : object_.items())
      if (std::find(known.begin(), known.end(), key) == known.end())
        throw_invalid("{}: unknown key \"{}\"; did you mean \"{}\"?", where_, key, nearest_name(key, known));
  }

  [[noreturn]] void fail(const char* key, const std::string& expected) const {
    std::string got =
        has(key) ? object_[key].dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) : "nothing";
    if (got.size() > 80) got = got.substr(0, 77) + "...";
    throw_invalid("{}: \"{}\" must be {}, got {}", where_, key, expected, got);
  }

 private:
  void require(const char* key) const {
    if (!has(key)) throw_invalid("{}: \"{}\" is missing", where_, key);
  }

  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace comet
