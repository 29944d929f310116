// SPDX-License-Identifier: Apache-2.0
#include "quantizer/recipe.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <variant>
#include <vector>

#include "base/check.h"
#include "base/mapped_file.h"
#include "base/nearest_name.h"

namespace comet {
namespace {

using nlohmann::json;

// One key of a recipe and the member it sets.
struct Key {
  const char* name;
  std::variant<int Recipe::*, double Recipe::*, bool Recipe::*> member;
  double low, high;
};

const Key kKeys[] = {
    {"kv_bits", &Recipe::kv_bits, 4, 16},
    {"act_bits", &Recipe::act_bits, 4, 8},
    {"int8_groups", &Recipe::int8_groups, -1, 512},
    {"int8_share", &Recipe::int8_share, 0, 1},
    {"outlier_threshold", &Recipe::outlier_threshold, 0, 1e6},
    {"permute", &Recipe::permute, 0, 1},
    {"rotate", &Recipe::rotate, 0, 1},
    {"k_rotate", &Recipe::k_rotate, 0, 1},
    {"v_rotate", &Recipe::v_rotate, 0, 1},
    {"smooth_k", &Recipe::smooth_k, 0, 1},
    {"search_act_clip", &Recipe::search_act_clip, 0, 1},
    {"search_weight_clip", &Recipe::search_weight_clip, 0, 1},
    {"error_feedback", &Recipe::error_feedback, 0, 1},
    {"damp", &Recipe::damp, 1e-6, 1},
    {"calibration_windows", &Recipe::calibration_windows, 0, 65536},
};

const Key& find_key(const std::string& name, const std::string& where) {
  std::vector<std::string> known;
  for (const Key& key : kKeys) {
    if (name == key.name) return key;
    known.push_back(key.name);
  }
  throw_invalid("{}: unknown recipe key \"{}\"; did you mean \"{}\"?", where, name, nearest_name(name, known));
}

void set_key(Recipe& recipe, const Key& key, const json& value, const std::string& where) {
  auto fail = [&](const std::string& expected) {
    throw_invalid("{}: recipe key \"{}\" must be {}, got {}", where, key.name, expected, value.dump());
  };
  if (const auto* flag = std::get_if<bool Recipe::*>(&key.member)) {
    if (!value.is_boolean()) fail("true or false");
    recipe.** flag = value.get<bool>();
    return;
  }
  const bool is_integer = std::holds_alternative<int Recipe::*>(key.member);
  if (is_integer ? !value.is_number_integer() : !value.is_number()) fail(is_integer ? "an integer" : "a number");
  const double number = value.get<double>();
  if (!(number >= key.low && number <= key.high)) fail(fmt::format("in {}..{}", key.low, key.high));
  if (const auto* integer = std::get_if<int Recipe::*>(&key.member))
    recipe.** integer = static_cast<int>(number);
  else
    recipe.*std::get<double Recipe::*>(key.member) = number;
}

void check(const Recipe& r, const std::string& where) {
  if (r.act_bits != 4 && r.act_bits != 8) throw_invalid("{}: act_bits must be 4 or 8, got {}", where, r.act_bits);
  if (r.kv_bits != 4 && r.kv_bits != 8 && r.kv_bits != 16)
    throw_invalid("{}: kv_bits must be 4, 8 or 16, got {}", where, r.kv_bits);
}

Recipe fmpq() {
  Recipe r;
  r.name = "fmpq";
  r.act_bits = 4;
  r.int8_groups = -1;
  r.int8_share = 0.15;
  r.permute = true;
  r.search_act_clip = true;
  r.search_weight_clip = true;
  r.error_feedback = true;
  r.calibration_windows = 48;
  return r;
}

Recipe base_recipe(const std::string& name, const std::string& where) {
  if (name == "rtn") return {};
  if (name == "fmpq") return fmpq();
  throw_invalid("{}: unknown recipe \"{}\" (fmpq, rtn, or a JSON file)", where, name);
}

}  // namespace

bool Recipe::needs_calibration() const {
  return permute || int8_groups < 0 || search_act_clip || search_weight_clip || error_feedback || smooth_k;
}

Recipe parse_recipe(const json& object, const std::string& where) {
  if (!object.is_object()) throw_invalid("{}: a recipe is a JSON object", where);
  Recipe recipe;
  if (object.contains("name")) {
    if (!object["name"].is_string())
      throw_invalid("{}: \"name\" must be \"fmpq\" or \"rtn\", the recipe to start from", where);
    recipe = base_recipe(object["name"].get<std::string>(), where);
  }
  for (const auto& [name, value] : object.items())
    if (name != "name") set_key(recipe, find_key(name, where), value, where);
  check(recipe, where);
  return recipe;
}

Recipe load_recipe(const std::string& name_or_file, const std::map<std::string, std::string>& overrides) {
  Recipe recipe;
  if (name_or_file.ends_with(".json") || std::filesystem::is_regular_file(name_or_file)) {
    const json parsed = json::parse(read_file(name_or_file, size_t{1} << 20), nullptr, false);
    if (parsed.is_discarded()) throw_invalid("{}: not valid JSON", name_or_file);
    recipe = parse_recipe(parsed, name_or_file);
  } else {
    recipe = base_recipe(name_or_file, "--recipe");
  }
  for (const auto& [name, text] : overrides) {
    const Key& key = find_key(name, "--set");
    const json value = json::parse(text, nullptr, false);
    if (value.is_discarded()) throw_invalid("--set {}={}: expected a number, true or false", name, text);
    set_key(recipe, key, value, "--set");
  }
  check(recipe, "--set");
  return recipe;
}

json to_json(const Recipe& recipe) {
  json out = {{"name", recipe.name}};
  for (const Key& key : kKeys) std::visit([&](auto member) { out[key.name] = recipe.*member; }, key.member);
  return out;
}

}  // namespace comet
