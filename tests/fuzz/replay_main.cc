// SPDX-License-Identifier: Apache-2.0
// Runs a fuzzer on files, for compilers without libFuzzer and for coverage: replay FILE|FOLDER ...
//
// COMET_FUZZ_EDGES names a file for what a build with libFuzzer's counters knows: a line "address reached" for each
// edge.
#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// The linker names the ends of these sections, where there are any: a counter, and an address with flags, for each
// edge.
struct Edge {
  uintptr_t address, flags;
};
extern "C" {
[[gnu::weak]] extern uint8_t __start___sancov_cntrs[], __stop___sancov_cntrs[];
[[gnu::weak]] extern Edge __start___sancov_pcs[];
}

namespace {

// Counters wrap, so they are looked at after every input.
class Edges {
 public:
  void look() {
    if (path_ == nullptr || __start___sancov_cntrs == nullptr) return;
    is_reached_.resize(static_cast<size_t>(__stop___sancov_cntrs - __start___sancov_cntrs));
    for (size_t i = 0; i < is_reached_.size(); ++i) is_reached_[i] = is_reached_[i] || __start___sancov_cntrs[i] != 0;
  }
  void write() const {
    if (is_reached_.empty()) return;
    Dl_info program{};
    dladdr(reinterpret_cast<const void*>(__start___sancov_pcs), &program);
    std::ofstream out(path_);
    for (size_t i = 0; i < is_reached_.size(); ++i)
      out << __start___sancov_pcs[i].address - reinterpret_cast<uintptr_t>(program.dli_fbase) << ' ' << is_reached_[i]
          << '\n';
  }

 private:
  const char* path_ = std::getenv("COMET_FUZZ_EDGES");
  std::vector<bool> is_reached_;
};

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::filesystem::path> files;
  for (int i = 1; i < argc; ++i) {
    if (!std::filesystem::is_directory(argv[i])) {
      files.emplace_back(argv[i]);
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  Edges edges;
  for (const std::filesystem::path& file : files) {
    std::ifstream in(file, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    if (!in.good() && !in.eof()) {
      std::fprintf(stderr, "cannot read %s\n", file.c_str());
      return 1;
    }
    std::fprintf(stderr, "%s\n", file.c_str());  // the last one printed is the one that fails
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    edges.look();
  }
  edges.write();
  std::fprintf(stderr, "%zu inputs\n", files.size());
  return files.empty() ? 1 : 0;
}
