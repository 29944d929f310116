// SPDX-License-Identifier: Apache-2.0
#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/check.h"

namespace comet {
namespace {

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) throw_invalid("cannot open {}: {}", path.string(), std::strerror(errno));
  struct stat info;
  if (fstat(file.fd, &info) != 0) throw_invalid("cannot read {}: {}", path.string(), std::strerror(errno));
  if (!S_ISREG(info.st_mode)) throw_invalid("{} is not a regular file", path.string());
  size_ = static_cast<size_t>(info.st_size);
  if (size_ == 0) return;
  void* p = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (p == MAP_FAILED) throw_invalid("cannot map {}: {}", path.string(), std::strerror(errno));
  data_ = static_cast<const uint8_t*>(p);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), size_);
}

std::string read_file(const std::filesystem::path& path, size_t max_bytes) {
  const MappedFile file(path);
  if (file.size() > max_bytes)
    throw_invalid("{} has {} bytes, more than the {} allowed", path.string(), file.size(), max_bytes);
  return std::string(reinterpret_cast<const char*>(file.data()), file.size());
}

}  // namespace comet
