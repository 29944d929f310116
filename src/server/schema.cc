// SPDX-License-Identifier: Apache-2.0
#include "server/schema.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/check.h"
#include "base/nearest_name.h"

namespace comet::server {
namespace {

bool has_type(const Json& value, const std::string& type) {
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_boolean();
  if (type == "string") return value.is_string();
  if (type == "array") return value.is_array();
  if (type == "object") return value.is_object();
  if (type == "number") return value.is_number();
  // JSON Schema takes 1.0 for an integer, too; readers cast.
  if (type == "integer")
    return value.is_number_integer() ||
           (value.is_number_float() && std::trunc(value.get<double>()) == value.get<double>());
  COMET_CHECK(false, "type {}", type);
  return false;
}

std::string shown(const Json& value) {
  std::string text = dump(value);
  if (text.size() <= 60) return text;
  size_t end = 57;
  while ((static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // not inside a character
  return text.substr(0, end) + "...";
}

bool has_types(const Json& value, const Json& types) {
  if (types.is_string()) return has_type(value, types);
  return std::any_of(types.begin(), types.end(), [&](const Json& t) { return has_type(value, t); });
}

void check_type(const Json& value, const Json& types, const std::string& place) {
  if (has_types(value, types)) return;
  std::string names;
  for (const Json& t : types) names += (names.empty() ? "" : " or ") + t.get<std::string>();
  throw bad_field(place, fmt::format("expected {}, got {}", names, shown(value)));
}

// nlohmann compares 2^63 and above with negative numbers as if it were negative, too. long double has 64 bits at least.
bool is_below(const Json& a, const Json& b) { return a.get<long double>() < b.get<long double>(); }

void check_number(const Json& value, const Json& schema, const std::string& place) {
  if (schema.contains("minimum") && is_below(value, schema["minimum"]))
    throw bad_field(place, fmt::format("{} is below {}", shown(value), shown(schema["minimum"])));
  if (schema.contains("maximum") && is_below(schema["maximum"], value))
    throw bad_field(place, fmt::format("{} is above {}", shown(value), shown(schema["maximum"])));
  if (schema.contains("exclusiveMinimum") && !is_below(schema["exclusiveMinimum"], value))
    throw bad_field(place, fmt::format("{} is not above {}", shown(value), shown(schema["exclusiveMinimum"])));
}

void check_size(size_t size, const Json& schema, const char* least, const char* most, const char* unit,
                const std::string& place) {
  if (schema.contains(least) && size < schema[least].get<size_t>())
    throw bad_field(place, fmt::format("has {} {}, needs at least {}", size, unit, schema[least].get<size_t>()));
  if (schema.contains(most) && size > schema[most].get<size_t>())
    throw bad_field(place, fmt::format("has {} {}, at most {} are possible", size, unit, schema[most].get<size_t>()));
}

size_t num_characters(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string member(const std::string& place, const std::string& key) { return place.empty() ? key : place + "." + key; }

void check_object(const Json& value, const Json& schema, const std::string& place) {
  const Json none = Json::object();
  const Json& properties = schema.contains("properties") ? schema["properties"] : none;
  if (schema.contains("required"))
    for (const Json& key : schema["required"])
      if (!value.contains(key.get<std::string>())) throw bad_field(member(place, key), "is missing");
  check_size(value.size(), schema, "minProperties", "maxProperties", "members", place);
  for (const auto& [key, v] : value.items()) {
    if (schema.contains("propertyNames") && (key.empty() || key.find_first_not_of("0123456789") != std::string::npos))
      throw bad_field(place, fmt::format("\"{}\" is not a token id", key));
    if (properties.contains(key)) {
      check_schema(v, properties[key], member(place, key));
    } else if (schema.contains("additionalProperties") && schema["additionalProperties"].is_object()) {
      check_schema(v, schema["additionalProperties"], member(place, key));
    } else if (schema.contains("additionalProperties")) {
      std::vector<std::string> names;
      for (const auto& [name, unused] : properties.items()) names.push_back(name);
      throw ApiError(
          400, "unknown_parameter",
          fmt::format("unknown field \"{}\"; did you mean \"{}\"?", member(place, key), nearest_name(key, names)),
          member(place, key));
    }
  }
}

// How well `schema` fits before any detail is looked at: its type, and that of the first item.
int fit(const Json& value, const Json& schema) {
  int best = 0;
  if (schema.contains("anyOf"))
    for (const Json& choice : schema["anyOf"]) best = std::max(best, fit(value, choice));
  if (!schema.contains("type") || !has_types(value, schema["type"])) return best;
  return 1 + (value.is_array() && !value.empty() && schema.contains("items") ? fit(value[0], schema["items"]) : 0);
}

// The choice that fits best says what is wrong.
void check_any_of(const Json& value, const Json& schema, const std::string& place) {
  std::optional<ApiError> error;
  int best = -1;
  for (const Json& choice : schema["anyOf"]) {
    try {
      check_schema(value, choice, place);
      return;
    } catch (const ApiError& e) {
      if (const int f = fit(value, choice); f > best) {
        best = f;
        error = e;
      }
    }
  }
  throw ApiError(*error);
}

}  // namespace

void check_schema(const Json& value, const Json& schema, const std::string& place) {
  if (schema.contains("anyOf")) check_any_of(value, schema, place);
  if (schema.contains("type")) check_type(value, schema["type"], place);
  if (schema.contains("enum") && std::find(schema["enum"].begin(), schema["enum"].end(), value) == schema["enum"].end())
    throw bad_field(place, fmt::format("{} is not one of {}", shown(value), dump(schema["enum"])));
  if (value.is_number()) check_number(value, schema, place);
  if (value.is_string())
    check_size(num_characters(value.get_ref<const std::string&>()), schema, "minLength", "maxLength", "characters",
               place);
  if (value.is_object()) check_object(value, schema, place);
  if (!value.is_array()) return;
  check_size(value.size(), schema, "minItems", "maxItems", "items", place);
  if (schema.contains("items"))
    for (size_t i = 0; i < value.size(); ++i) check_schema(value[i], schema["items"], fmt::format("{}[{}]", place, i));
}

}  // namespace comet::server
