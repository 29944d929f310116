// SPDX-License-Identifier: Apache-2.0
// Every keyword of the schema checker: what it lets through, what it refuses, and the place that it names.
#include "server/schema.h"

#include <gmock/gmock.h>

#include "refusal.h"

namespace comet::server {
namespace {

using testing::HasSubstr;

Refusal check(const std::string& value, const std::string& schema) {
  return refusal([&] { check_schema(Json::parse(value), Json::parse(schema), ""); });
}

void allows(const std::string& schema, const std::vector<std::string>& values) {
  for (const std::string& value : values) {
    const Refusal r = check(value, schema);
    EXPECT_EQ(r.status, 0) << value << " of " << schema << ": " << r;
  }
}

void refuses(const std::string& schema, const std::vector<std::string>& values, const std::string& place = "") {
  for (const std::string& value : values) {
    const Refusal r = check(value, schema);
    EXPECT_EQ(r.status, 400) << value << " of " << schema;
    EXPECT_EQ(r.param, place) << value << " of " << schema;
  }
}

TEST(Schema, Types) {
  const std::vector<std::string> values = {"null", "true", "\"x\"", "[]", "{}", "1", "1.5"};
  const std::vector<std::string> types = {"null", "boolean", "string", "array", "object", "integer", "number"};
  for (size_t t = 0; t < types.size(); ++t)
    for (size_t v = 0; v < values.size(); ++v) {
      const bool fits = t == v || (types[t] == "number" && values[v] == "1");
      EXPECT_EQ(check(values[v], R"({"type":")" + types[t] + "\"}").status, fits ? 0 : 400) << types[t] << values[v];
    }
  allows(R"({"type":"integer"})", {"2.0", "-3.0", "18446744073709551615"});
  refuses(R"({"type":"integer"})", {"2.25", "\"2\""});
  allows(R"({"type":["string","null"]})", {"\"a\"", "null"});
  EXPECT_THAT(check("7", R"({"type":["string","null"]})").message, HasSubstr("string or null, got 7"));
}

TEST(Schema, Numbers) {
  allows(R"({"minimum":-2,"maximum":2})", {"-2", "2", "0.5", "2.0", "\"100\""});
  refuses(R"({"minimum":-2,"maximum":2})", {"-2.001", "3", "1e300", "-9223372036854775808"});
  refuses(R"({"exclusiveMinimum":0})", {"0", "-1", "0.0"});
  allows(R"({"exclusiveMinimum":0})", {"1e-300"});
}

TEST(Schema, UnsignedNumbersAreNotNegative) {
  const std::string schema = R"({"type":"integer","minimum":-1,"maximum":9223372036854775807})";
  allows(schema, {"-1", "9223372036854775807"});
  refuses(schema, {"18446744073709551615", "9223372036854775808", "9223372036854775808.0", "1e19"});
}

TEST(Schema, Strings) {
  allows(R"({"minLength":1,"maxLength":3})", {"\"a\"", "\"äöü\"", "5"});  // characters, not bytes
  refuses(R"({"minLength":1,"maxLength":3})", {"\"\"", "\"abcd\""});
}

TEST(Schema, Enum) {
  allows(R"({"enum":["a",1,false]})", {"\"a\"", "1", "false"});
  refuses(R"({"enum":["a",1,false]})", {"\"b\"", "2", "true", "null"});
}

TEST(Schema, Arrays) {
  const std::string schema = R"({"minItems":1,"maxItems":3,"items":{"type":"integer"}})";
  allows(schema, {"[1]", "[1,2,3]"});
  refuses(schema, {"[]", "[1,2,3,4]"});
  refuses(schema, {"[1,\"x\"]", "[1,null,3]"}, "[1]");
}

TEST(Schema, Objects) {
  const std::string schema =
      R"({"properties":{"a":{"type":"object","properties":{"b":{"items":{"type":"string"}}},"required":["b"]}},
          "additionalProperties":false,"minProperties":1})";
  allows(schema, {R"({"a":{"b":["x"]}})", R"({"a":{"b":[],"more":1}})"});
  refuses(schema, {"{}"});
  refuses(schema, {R"({"a":{}})"}, "a.b");
  refuses(schema, {R"({"a":{"b":["x",2]}})"}, "a.b[1]");
  const Refusal unknown = check(R"({"aa":1})", schema);
  EXPECT_EQ(unknown.code, "unknown_parameter");
  EXPECT_EQ(unknown.param, "aa");
  EXPECT_THAT(unknown.message, HasSubstr("did you mean \"a\""));
}

TEST(Schema, Maps) {
  const std::string schema =
      R"({"type":"object","propertyNames":{"pattern":"^[0-9]+$"},"additionalProperties":{"type":"number"}})";
  allows(schema, {"{}", R"({"12":1.5})"});
  refuses(schema, {R"({"x":1})", R"({"":1})", R"({"-1":1})"});
  refuses(schema, {R"({"12":"x"})"}, "12");
}

TEST(Schema, AnyOfNamesWhatFitsBest) {
  const std::string schema =
      R"({"anyOf":[{"type":"string"},{"type":"array","items":{"type":"string"}},
          {"type":"array","items":{"type":"integer","minimum":0}},{"type":"null"}]})";
  allows(schema, {"\"x\"", "[\"x\"]", "[1,2]", "[]", "null"});
  refuses(schema, {"5", "true"});
  refuses(schema, {"[1,-2]", "[1,\"x\"]"}, "[1]");
  refuses(schema, {"[\"x\",\"y\",3]"}, "[2]");
  EXPECT_THAT(check("[1,-2]", schema).message, HasSubstr("-2 is below 0"));
}

TEST(Schema, LongValuesAreCutBetweenCharacters) {
  std::string text = "\"x";
  for (int i = 0; i < 100; ++i) text += "ä";
  const std::string message = check(text + "\"", R"({"type":"number"})").message;
  EXPECT_LT(message.size(), 100u);
  EXPECT_EQ(Json::parse(Json(message).dump()), message);  // dump() throws for half a character
}

}  // namespace
}  // namespace comet::server
