// SPDX-License-Identifier: Apache-2.0
// Model names: a folder, or ORG/NAME in the local Hugging Face cache.
#include <cstdlib>
#include <filesystem>

#include "base/check.h"
#include "base/mapped_file.h"
#include "comet/comet.h"

namespace comet::api {
namespace {

namespace fs = std::filesystem;

fs::path cache_folder() {
  if (const char* hub = std::getenv("HF_HUB_CACHE")) return hub;
  if (const char* home = std::getenv("HF_HOME")) return fs::path(home) / "hub";
  if (const char* cache = std::getenv("XDG_CACHE_HOME")) return fs::path(cache) / "huggingface/hub";
  const char* user = std::getenv("HOME");
  return fs::path(user != nullptr ? user : "") / ".cache/huggingface/hub";
}

std::string trimmed(std::string s) {
  while (!s.empty() && isspace(static_cast<unsigned char>(s.back()))) s.pop_back();
  return s;
}

}  // namespace

std::string resolve_model(const std::string& name) {
  std::error_code ignored;
  if (fs::is_directory(name, ignored)) return name;
  const size_t slash = name.find('/');
  const bool is_hub_name = slash != std::string::npos && slash > 0 && name.find('/', slash + 1) == std::string::npos &&
                           name[0] != '.' && slash + 1 < name.size();
  if (!is_hub_name) throw_invalid("no model folder at {}", name);
  const fs::path folder = cache_folder() / ("models--" + name.substr(0, slash) + "--" + name.substr(slash + 1));
  if (fs::exists(folder / "refs/main", ignored)) {
    const fs::path snapshot = folder / "snapshots" / trimmed(read_file(folder / "refs/main", 4096));
    if (fs::is_directory(snapshot, ignored)) return snapshot.string();
  }
  throw_invalid("{} is neither a folder nor in the local Hugging Face cache ({}). To download it: hf download {}", name,
                cache_folder().string(), name);
}

}  // namespace comet::api
