// SPDX-License-Identifier: Apache-2.0
// Recipes: names, files, single keys, and what is wrong with them.
#include "quantizer/recipe.h"

#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "folders.h"

namespace comet {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

TEST(Recipe, RtnNeedsNoCalibration) {
  const Recipe r = load_recipe("rtn");
  EXPECT_FALSE(r.needs_calibration());
  EXPECT_FALSE(r.permute);
  EXPECT_EQ(r.int8_groups, 0);
  EXPECT_TRUE(r.rotate && r.k_rotate && r.v_rotate);
  EXPECT_TRUE(load_recipe("fmpq").needs_calibration());
}

TEST(Recipe, OverridesAreTyped) {
  const Recipe r = load_recipe("rtn", {{"act_bits", "4"}, {"int8_groups", "1"}, {"rotate", "false"}, {"damp", "0.5"}});
  EXPECT_EQ(r.act_bits, 4);
  EXPECT_EQ(r.int8_groups, 1);
  EXPECT_FALSE(r.rotate);
  EXPECT_EQ(r.damp, 0.5);
  EXPECT_THAT(message_of([] { load_recipe("rtn", {{"act_bits", "4.5"}}); }), HasSubstr("must be an integer"));
  EXPECT_THAT(message_of([] { load_recipe("rtn", {{"act_bits", "6"}}); }), HasSubstr("act_bits must be 4 or 8, got 6"));
  EXPECT_THAT(message_of([] { load_recipe("rtn", {{"kv_bits", "5"}}); }), HasSubstr("kv_bits must be 4, 8 or 16"));
  EXPECT_THAT(message_of([] { load_recipe("rtn", {{"int8_share", "1.5"}}); }), HasSubstr("in 0..1"));
  EXPECT_THAT(message_of([] { load_recipe("rtn", {{"rotate", "1"}}); }), HasSubstr("true or false"));
  EXPECT_THAT(message_of([] { load_recipe("rtn", {{"rotate", "yes"}}); }), HasSubstr("rotate=yes"));
}

TEST(Recipe, UnknownKeysNameTheNearest) {
  EXPECT_THAT(message_of([] {
                load_recipe("rtn", {{"act_bit", "4"}});
              }),
              AllOf(HasSubstr("unknown recipe key \"act_bit\""), HasSubstr("did you mean \"act_bits\"")));
  EXPECT_THAT(message_of([] { load_recipe("rtn", {{"int8-share", "0"}}); }), HasSubstr("did you mean \"int8_share\""));
  EXPECT_THAT(message_of([] {
                parse_recipe({{"outlier_treshold", 3}}, "file");
              }),
              HasSubstr("did you mean \"outlier_threshold\""));
  EXPECT_THAT(message_of([] { load_recipe("gptq"); }), AllOf(HasSubstr("gptq"), HasSubstr("fmpq, rtn")));
}

TEST(Recipe, FilesStartFromANamedOne) {
  const TemporaryFolder folder;
  std::ofstream(folder / "r.json") << R"({"name": "fmpq", "act_bits": 8})";
  const Recipe r = load_recipe((folder / "r.json").string(), {{"kv_bits", "8"}});
  EXPECT_EQ(r.act_bits, 8);
  EXPECT_EQ(r.kv_bits, 8);
  EXPECT_TRUE(r.error_feedback);
  EXPECT_EQ(to_json(parse_recipe(to_json(r), "again")), to_json(r));
  std::ofstream(folder / "bad.json") << "{";
  EXPECT_THAT(message_of([&] { load_recipe((folder / "bad.json").string()); }), HasSubstr("not valid JSON"));
  EXPECT_THAT(message_of([&] { load_recipe((folder / "none.json").string()); }), HasSubstr("none.json"));
  EXPECT_THAT(message_of([] { parse_recipe(json::array(), "file"); }), HasSubstr("a recipe is a JSON object"));
}

}  // namespace
}  // namespace comet
