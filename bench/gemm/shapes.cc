// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm/shapes.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/check.h"
#include "base/nearest_name.h"

namespace comet::gemm_bench {
namespace {

constexpr int kGroup = 128, kStrip = 16;               // multiples of K and N
constexpr int kLargestN = 1 << 18, kLargestK = 65536;  // K: of the number format

const std::vector<Shape>& named_shapes() {
  static const std::vector<Shape> shapes = {
      {"8B.qkv", 6144, 4096},          {"8B.o", 4096, 4096},           {"8B.gate_up", 28672, 4096},
      {"8B.down", 4096, 14336},        {"70B.qkv", 10240, 8192},       {"70B.o", 8192, 8192},
      {"70B.gate_up", 57344, 8192},    {"70B.down", 8192, 28672},      {"L1-30B.qkv", 19968, 6656},
      {"L1-30B.o", 6656, 6656},        {"L1-30B.up", 17920, 6656},     {"L1-30B.down", 6656, 17920},
      {"L2-7B.qkv", 12288, 4096},      {"L2-7B.o", 4096, 4096},        {"L2-7B.up", 11008, 4096},
      {"L2-7B.down", 4096, 11008},     {"L2-13B.qkv", 15360, 5120},    {"L2-13B.o", 5120, 5120},
      {"L2-13B.up", 13824, 5120},      {"L2-13B.down", 5120, 13824},   {"Mistral.qkv", 12288, 4096},
      {"Mistral.o", 4096, 4096},       {"Mistral.up", 14336, 4096},    {"Mistral.down", 4096, 14336},
      {"Qwen2-72B.qkv", 24576, 8192},  {"Qwen2-72B.o", 8192, 8192},    {"Qwen2-72B.up", 29568, 8192},
      {"Qwen2-72B.down", 8192, 29568}, {"OPT-175B.qkv", 36864, 12288}, {"OPT-175B.o", 12288, 12288},
      {"OPT-175B.up", 49152, 12288},   {"OPT-175B.down", 12288, 49152}};
  return shapes;
}

bool is_in(const std::string& family, const std::string& wanted) {
  if (wanted == "llama3") return family == "8B" || family == "70B";
  return wanted == "paper" || wanted == family;
}

// "NxK"; nothing for what is not meant as one.
std::optional<Shape> parse_size(const std::string& text) {
  Shape shape{text, 0, 0};
  const char *begin = text.data(), *end = begin + text.size();
  const auto n = std::from_chars(begin, end, shape.n);
  if (n.ec != std::errc() || n.ptr == end || *n.ptr != 'x') return {};
  const auto k = std::from_chars(n.ptr + 1, end, shape.k);
  if (k.ec != std::errc() || k.ptr != end) return {};
  const auto check = [&](const char* what, int value, int step, int largest) {
    if (value < step || value > largest || value % step != 0)
      throw_invalid("--shapes {}: {} is {}, expected a multiple of {} up to {}", text, what, value, step, largest);
  };
  check("N", shape.n, kStrip, kLargestN);
  check("K", shape.k, kGroup, kLargestK);
  return shape;
}

[[noreturn]] void throw_unknown(const std::string& name) {
  std::vector<std::string> families = {"llama3", "paper"}, known = families;
  for (const Shape& s : named_shapes()) {
    known.push_back(s.name);
    if (const std::string family = family_of(s.name); family != families.back()) families.push_back(family);
  }
  known.insert(known.end(), families.begin() + 2, families.end());
  throw_invalid(
      "--shapes {}: there is no such shape, did you mean {}? There are the families {}, their layers .qkv, .o, .up "
      "(.gate_up of 8B and 70B) and .down, such as 8B.qkv, and NxK such as 6144x4096",
      name, nearest_name(name, known), fmt::join(families, ", "));
}

}  // namespace

std::string family_of(const std::string& name) { return name.substr(0, name.find('.')); }

std::vector<Shape> resolve_shapes(const std::vector<std::string>& names) {
  std::vector<Shape> out;
  for (const std::string& name : names) {
    std::vector<Shape> found;
    for (const Shape& s : named_shapes())
      if (s.name == name || is_in(family_of(s.name), name)) found.push_back(s);
    if (const auto size = parse_size(name)) found.push_back(*size);
    if (found.empty()) throw_unknown(name);
    for (const Shape& s : found)
      if (std::none_of(out.begin(), out.end(), [&](const Shape& o) { return o.name == s.name; })) out.push_back(s);
  }
  if (out.empty()) throw_invalid("--shapes: none is named");
  return out;
}

}  // namespace comet::gemm_bench
