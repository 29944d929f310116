// SPDX-License-Identifier: Apache-2.0
// Finds stop strings in text that arrives in pieces, holding back only what may still become one.
#pragma once

#include <string>
#include <vector>

namespace comet {

class StopStrings {
 public:
  // Throws InvalidInput for an empty stop string or more than 64 of them.
  explicit StopStrings(std::vector<std::string> stops);

  struct Found {
    std::string text;      // certain to be before any stop string
    bool stopped = false;  // the earliest match begins right after text; nothing comes later
    std::string match;     // which one
  };

  Found push(const std::string& piece);
  // The end: what was held back is text after all.
  std::string flush();

 private:
  std::vector<std::string> stops_;
  std::string held_;
};

}  // namespace comet
