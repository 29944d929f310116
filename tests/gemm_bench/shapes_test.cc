// SPDX-License-Identifier: Apache-2.0
// --shapes: families, layers, sizes; and what is refused.
#include "bench/gemm/shapes.h"

#include <gmock/gmock.h>

#include <set>

#include "base/check.h"

namespace comet::gemm_bench {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> names_of(const std::vector<std::string>& asked) {
  std::vector<std::string> names;
  for (const Shape& s : resolve_shapes(asked)) names.push_back(s.name);
  return names;
}

std::string error_of(const std::string& asked) {
  try {
    resolve_shapes({asked});
  } catch (const InvalidInput& e) {
    return e.what();
  }
  return "taken";
}

TEST(Shapes, Llama3IsTheLayersOf8BAnd70B) {
  EXPECT_THAT(names_of({"llama3"}),
              ElementsAre("8B.qkv", "8B.o", "8B.gate_up", "8B.down", "70B.qkv", "70B.o", "70B.gate_up", "70B.down"));
  const Shape down = resolve_shapes({"70B.down"}).at(0);
  EXPECT_EQ(down.n, 8192);
  EXPECT_EQ(down.k, 28672);
}

TEST(Shapes, PaperIsAllOfFigure9) {
  const std::vector<Shape> all = resolve_shapes({"paper"});
  std::set<std::string> names, families;
  for (const Shape& s : all) {
    names.insert(s.name), families.insert(family_of(s.name));
    EXPECT_EQ(s.k % 128, 0) << s.name;
    EXPECT_EQ(s.n % 16, 0) << s.name;
  }
  EXPECT_EQ(all.size(), 32u);
  EXPECT_EQ(names.size(), 32u);
  EXPECT_THAT(families, ElementsAre("70B", "8B", "L1-30B", "L2-13B", "L2-7B", "Mistral", "OPT-175B", "Qwen2-72B"));
  const Shape up = resolve_shapes({"Qwen2-72B.up"}).at(0);
  EXPECT_EQ(up.n, 29568);
  EXPECT_EQ(up.k, 8192);
}

TEST(Shapes, SizesStandForThemselves) {
  const std::vector<Shape> shapes = resolve_shapes({"6144x4096", "16x128"});
  ASSERT_EQ(shapes.size(), 2u);
  EXPECT_EQ(shapes[0].name, "6144x4096");
  EXPECT_EQ(shapes[0].n, 6144);
  EXPECT_EQ(shapes[0].k, 4096);
  EXPECT_EQ(family_of(shapes[0].name), "6144x4096");
}

TEST(Shapes, AskedForTwiceIsThereOnce) {
  EXPECT_THAT(names_of({"L2-7B.o", "L2-7B", "L2-7B.qkv"}),
              ElementsAre("L2-7B.o", "L2-7B.qkv", "L2-7B.up", "L2-7B.down"));
}

TEST(Shapes, UnknownNamesListWhatThereIs) {
  EXPECT_THAT(error_of("8B.qvk"), AllOf(HasSubstr("--shapes 8B.qvk"), HasSubstr("did you mean 8B.qkv?"),
                                        HasSubstr("llama3, paper, 8B, 70B, L1-30B"), HasSubstr("6144x4096")));
  EXPECT_THAT(error_of("lama3"), HasSubstr("did you mean llama3?"));
  for (const char* text : {"", "x4096", "4096x", "4096x4096x", "4096*4096", "8b", " 16x128"})
    EXPECT_THAT(error_of(text), HasSubstr("no such shape")) << text;
  EXPECT_THROW(resolve_shapes({}), InvalidInput);
}

TEST(Shapes, SizesThatNoKernelTakes) {
  EXPECT_THAT(error_of("6144x4100"), HasSubstr("K is 4100, expected a multiple of 128 up to 65536"));
  EXPECT_THAT(error_of("6144x0"), HasSubstr("K is 0"));
  EXPECT_THAT(error_of("6144x65664"), HasSubstr("K is 65664"));
  EXPECT_THAT(error_of("100x4096"), HasSubstr("N is 100, expected a multiple of 16 up to 262144"));
  EXPECT_THAT(error_of("-16x128"), HasSubstr("N is -16"));
  EXPECT_THAT(error_of("524288x4096"), HasSubstr("N is 524288"));
}

}  // namespace
}  // namespace comet::gemm_bench
