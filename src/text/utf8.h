// SPDX-License-Identifier: Apache-2.0
// Bytes to valid UTF-8, also when they come piece by piece.
#pragma once

#include <string>
#include <string_view>

namespace comet {

// Moves what no later byte can change from `bytes` to the result, as valid UTF-8 (what is not UTF-8 becomes U+FFFD, one
// for each maximal part, as Unicode recommends), and leaves the start of a character in `bytes`: at most 3 bytes.
std::string take_valid_utf8(std::string& bytes);

// All of `bytes` as valid UTF-8; an incomplete character at the end becomes one U+FFFD.
std::string to_valid_utf8(std::string_view bytes);

}  // namespace comet
