// SPDX-License-Identifier: Apache-2.0
#include "console.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace comet::app {
namespace {

constexpr int kBarWidth = 30;

std::string human_seconds(double s) {
  if (s < 60) return fmt::format("{:.0f} s", s);
  return fmt::format("{}:{:02d} min", static_cast<int>(s) / 60, static_cast<int>(s) % 60);
}

}  // namespace

bool is_terminal(int fd) { return isatty(fd) == 1; }

std::string human_bytes(double bytes) {
  const char* units[] = {"B", "KB", "MB", "GB", "TB"};
  int u = 0;
  while (bytes >= 1000 && u < 4) {
    bytes /= 1000;
    ++u;
  }
  return u == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, units[u]);
}

ProgressBar::ProgressBar(std::string title, bool quiet)
    : title_(std::move(title)), quiet_(quiet), start_(std::chrono::steady_clock::now()), last_(start_) {}

ProgressBar::~ProgressBar() {
  if (drawn_ && is_terminal(STDERR_FILENO)) fmt::print(stderr, "\n");
}

void ProgressBar::update(int done, int total, const std::string& note) {
  if (quiet_ || total <= 0) return;
  const auto now = std::chrono::steady_clock::now();
  const bool live = is_terminal(STDERR_FILENO);
  const double wait = live ? 0.1 : 10.0;
  if (done < total && drawn_ && std::chrono::duration<double>(now - last_).count() < wait) return;
  last_ = now;
  drawn_ = true;
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const std::string eta = done == 0      ? ""
                          : done < total ? ", " + human_seconds(elapsed / done * (total - done)) + " left"
                                         : ", " + human_seconds(elapsed);
  const int filled = static_cast<int>(static_cast<int64_t>(kBarWidth) * done / total);
  fmt::print(stderr, "{}{} [{}{}] {}/{}{}{}{}{}", live ? "\r\x1b[K" : "", title_,
             std::string(static_cast<size_t>(filled), '#'), std::string(static_cast<size_t>(kBarWidth - filled), '.'),
             done, total, eta, note.empty() ? "" : ", ", note, live ? "" : "\n");
  std::fflush(stderr);
}

std::string format_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) {
      if (i >= widths.size()) widths.push_back(0);
      widths[i] = std::max(widths[i], row[i].size());
    }
  std::string out;
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t i = 0; i < rows[r].size(); ++i) {
      if (i == 0)
        out += fmt::format("{:<{}}", rows[r][i], widths[i]);
      else
        out += fmt::format("  {:>{}}", rows[r][i], widths[i]);
    }
    out += '\n';
    if (r == 0) {
      size_t total = 0;
      for (const size_t w : widths) total += w + 2;
      out += std::string(total - 2, '-') + '\n';
    }
  }
  return out;
}

}  // namespace comet::app
