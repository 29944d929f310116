// SPDX-License-Identifier: Apache-2.0
// "Did you mean": the known name closest to a mistyped one.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace comet {

// The one of `known` (not empty) with the fewest single-character edits; the first among equals.
std::string nearest_name(std::string_view name, std::span<const std::string> known);

}  // namespace comet
