// SPDX-License-Identifier: Apache-2.0
// Bytes to valid UTF-8, also when they come piece by piece.
#include "text/utf8.h"

#include <cstdint>

namespace comet {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

enum class Utf8 { valid, invalid, incomplete };

struct Unit {
  Utf8 kind;
  size_t size;  // bytes of the character, of the maximal invalid part, or of what is there of it
};

// The table "Well-Formed UTF-8 Byte Sequences" of the Unicode standard; `bytes` is not empty.
Unit first_unit(std::string_view bytes) {
  const auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const uint8_t lead = at(0);
  if (lead < 0x80) return {Utf8::valid, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8::invalid, 1};
  const size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte excludes overlong forms, surrogates and what is beyond U+10FFFF.
  uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < size; ++i) {
    if (i == bytes.size()) return {Utf8::incomplete, i};
    if (at(i) < low || at(i) > high) return {Utf8::invalid, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Utf8::valid, size};
}

// Appends the valid form of `bytes` to `out`; returns how many bytes an incomplete character at the end has.
size_t append_valid(std::string_view bytes, std::string& out) {
  while (!bytes.empty()) {
    const Unit unit = first_unit(bytes);
    if (unit.kind == Utf8::incomplete) return unit.size;
    out += unit.kind == Utf8::valid ? bytes.substr(0, unit.size) : kReplacement;
    bytes.remove_prefix(unit.size);
  }
  return 0;
}

}  // namespace

std::string take_valid_utf8(std::string& bytes) {
  std::string out;
  out.reserve(bytes.size());
  const size_t rest = append_valid(bytes, out);
  bytes.erase(0, bytes.size() - rest);
  return out;
}

std::string to_valid_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  if (append_valid(bytes, out) != 0) out += kReplacement;
  return out;
}

}  // namespace comet
