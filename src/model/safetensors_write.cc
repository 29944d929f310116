// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.h"
#include "model/safetensors.h"

namespace comet {
namespace {

const char* name_of(DType t) {
  switch (t) {
    case DType::f32: return "F32";
    case DType::bf16: return "BF16";
    case DType::f16: return "F16";
    case DType::i32: return "I32";
    case DType::u8: return "U8";
    case DType::i8: return "I8";
    case DType::i64: return "I64";
    case DType::boolean: return "BOOL";
  }
  return "?";
}

// A file under a temporary name that is removed unless commit() was reached.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::filesystem::path& target)
      : target_(target), temporary_(target.string() + ".partial") {
    fd_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd_ < 0) fail("create");
  }
  ~TemporaryFile() {
    if (fd_ >= 0) close(fd_);
    if (!committed_) unlink(temporary_.c_str());
  }

  void write(const void* data, size_t bytes) {
    const char* at = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t n = ::write(fd_, at, std::min<size_t>(bytes, size_t{1} << 30));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) fail("write");
      at += n;
      bytes -= static_cast<size_t>(n);
    }
  }

  void commit() {
    if (fsync(fd_) != 0) fail("sync");
    const int fd = std::exchange(fd_, -1);
    if (close(fd) != 0) fail("close");
    if (rename(temporary_.c_str(), target_.c_str()) != 0) fail("rename");
    committed_ = true;
  }

 private:
  [[noreturn]] void fail(const char* what) {
    throw_invalid("cannot {} {}: {}", what, temporary_.string(), std::strerror(errno));
  }

  std::filesystem::path target_, temporary_;
  int fd_ = -1;
  bool committed_ = false;
};

}  // namespace

void write_safetensors(const std::filesystem::path& file, const std::map<std::string, OwnedTensor>& tensors) {
  std::vector<std::map<std::string, OwnedTensor>::const_iterator> order;  // widest elements first: all stay aligned
  for (auto it = tensors.begin(); it != tensors.end(); ++it) order.push_back(it);
  std::stable_sort(order.begin(), order.end(),
                   [](auto a, auto b) { return dtype_bytes(a->second.dtype) > dtype_bytes(b->second.dtype); });
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  uint64_t at = 0;
  for (const auto& it : order) {
    const OwnedTensor& t = it->second;
    header[it->first] = {{"dtype", name_of(t.dtype)}, {"shape", t.shape}, {"data_offsets", {at, at + t.bytes.size()}}};
    at += t.bytes.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 8 + 63) / 64 * 64 - 8, ' ');  // tensor bytes start at a multiple of 64
  const uint64_t header_bytes = text.size();
  TemporaryFile out(file);
  out.write(&header_bytes, 8);
  out.write(text.data(), text.size());
  for (const auto& it : order) out.write(it->second.bytes.data(), it->second.bytes.size());
  out.commit();
}

void write_file_atomically(const std::filesystem::path& file, const std::string& bytes) {
  TemporaryFile out(file);
  out.write(bytes.data(), bytes.size());
  out.commit();
}

}  // namespace comet
