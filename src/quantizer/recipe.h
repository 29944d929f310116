// SPDX-License-Identifier: Apache-2.0
// What the quantizer is to do: a named recipe, a JSON file, and single keys set over them.
#pragma once

#include <array>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "model/config.h"

namespace comet {

struct Recipe {
  std::string name = "rtn";
  int kv_bits = 4;   // 4, 8 or 16
  int act_bits = 8;  // bits2 of every site: 8 = W4A8, 4 = W4Ax
  // n8 of a site: `int8_groups` >= 0 gives it; else groups with a channel whose absmax exceeds `outlier_threshold`
  // times the site's median, but at most `int8_share` of the groups, rounded.
  int int8_groups = 0;
  double int8_share = 0.0;         // 0..1
  double outlier_threshold = 0.0;  // 0: take the share
  bool permute = false;            // outliers first
  bool rotate = true;              // Hadamard in the groups of region 2
  bool k_rotate = true, v_rotate = true;
  bool smooth_k = false;
  bool search_act_clip = false;
  bool search_weight_clip = false;
  bool error_feedback = false;  // GPTQ rounding
  double damp = 0.01;           // of its Hessian, relative to the mean diagonal
  int calibration_windows = 0;  // 0: none needed

  bool needs_calibration() const;
};

// "rtn" or "fmpq"; else a JSON file. overrides: key -> value as text ("true", "4", "0.16"). Throws InvalidInput:
// unknown recipe (lists them), unknown key (names the nearest known one), value out of range.
Recipe load_recipe(const std::string& name_or_file, const std::map<std::string, std::string>& overrides = {});
Recipe parse_recipe(const nlohmann::json& object, const std::string& where);
nlohmann::json to_json(const Recipe& recipe);

}  // namespace comet
