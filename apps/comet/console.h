// SPDX-License-Identifier: Apache-2.0
// Progress bars and tables for people; on standard error, so that standard output stays for results.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace comet::app {

bool is_terminal(int fd);

// "1.5 GB"
std::string human_bytes(double bytes);

// One line that rewrites itself on a terminal; elsewhere a line every few seconds.
class ProgressBar {
 public:
  explicit ProgressBar(std::string title, bool quiet = false);
  ~ProgressBar();
  // note: shown behind the bar, e.g. "ppl 24.01".
  void update(int done, int total, const std::string& note = {});

 private:
  std::string title_;
  bool quiet_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_, last_;
};

// Columns padded to their widest cell; the first row is the head.
std::string format_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace comet::app
