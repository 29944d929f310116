// SPDX-License-Identifier: Apache-2.0
// A file mapped read-only, and small files read whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

namespace comet {

class MappedFile {
 public:
  // Throws InvalidInput with the path and the system's reason.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// Throws InvalidInput when the file cannot be read or is larger than max_bytes.
std::string read_file(const std::filesystem::path& path, size_t max_bytes = size_t{256} << 20);

}  // namespace comet
