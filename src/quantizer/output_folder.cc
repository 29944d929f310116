// SPDX-License-Identifier: Apache-2.0
#include "quantizer/output_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/mapped_file.h"

namespace comet {
namespace {

namespace fs = std::filesystem;

constexpr size_t kShardBytes = size_t{2} << 30;

std::string temporary_shard(size_t index) { return fmt::format("shard-{:05d}.safetensors", index + 1); }

bool is_side_file(const fs::path& file) {
  const std::string name = file.filename().string(), extension = file.extension().string();
  if (name == "config.json" || name.ends_with(".index.json")) return false;
  return extension == ".json" || extension == ".jinja" || extension == ".model" || name == "merges.txt" ||
         name == "vocab.txt" || name == "LICENSE";
}

void sync_folder(const fs::path& folder) {
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

}  // namespace

OutputFolder::OutputFolder(const fs::path& target) : target_(fs::absolute(target).lexically_normal()) {
  if (target_.filename().empty()) target_ = target_.parent_path();  // "out/" -> "out"
  if (fs::exists(target_) && !(fs::is_directory(target_) && fs::is_empty(target_)))
    throw_invalid("output {} exists and is not an empty folder", target_.string());
  partial_ = target_.string() + ".partial";
  std::error_code error;
  fs::create_directories(target_.parent_path(), error);
  const fs::path lock_file = target_.string() + ".lock";
  lock_ = open(lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0) throw_invalid("cannot write beside {}: {}", target_.string(), std::strerror(errno));
  if (flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    close(lock_);
    throw_invalid("another process is writing {}", target_.string());
  }
  fs::remove_all(partial_, error);  // left by a run that was killed
  fs::create_directories(partial_, error);
  if (error) throw_invalid("cannot create {}: {}", partial_.string(), error.message());
}

OutputFolder::~OutputFolder() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(partial_, ignored);
  fs::remove(target_.string() + ".lock", ignored);
  close(lock_);
}

void OutputFolder::add(const std::string& name, OwnedTensor tensor) {
  pending_bytes_ += tensor.bytes.size();
  total_bytes_ += tensor.bytes.size();
  COMET_CHECK(pending_.emplace(name, std::move(tensor)).second, "tensor {} twice", name);
  if (pending_bytes_ >= kShardBytes) flush_shard();
}

void OutputFolder::flush_shard() {
  if (pending_.empty()) return;
  write_safetensors(partial_ / temporary_shard(shards_.size()), pending_);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : pending_) names.push_back(name);
  shards_.push_back(std::move(names));
  pending_.clear();
  pending_bytes_ = 0;
}

void OutputFolder::write_file(const std::string& name, const std::string& bytes) {
  write_file_atomically(partial_ / name, bytes);
}

void OutputFolder::copy_side_files(const fs::path& model) {
  for (const fs::directory_entry& entry : fs::directory_iterator(model))
    if (entry.is_regular_file() && is_side_file(entry.path()) && entry.file_size() <= (size_t{256} << 20))
      write_file(entry.path().filename().string(), read_file(entry.path()));
}

size_t OutputFolder::commit() {
  flush_shard();
  const size_t count = shards_.size();
  nlohmann::json map = nlohmann::json::object();
  for (size_t i = 0; i < count; ++i) {
    const std::string name =
        count == 1 ? "model.safetensors" : fmt::format("model-{:05d}-of-{:05d}.safetensors", i + 1, count);
    fs::rename(partial_ / temporary_shard(i), partial_ / name);
    for (const std::string& tensor : shards_[i]) map[tensor] = name;
  }
  if (count > 1)
    write_file("model.safetensors.index.json",
               nlohmann::json{{"metadata", {{"total_size", total_bytes_}}}, {"weight_map", map}}.dump(2));
  sync_folder(partial_);
  std::error_code error;
  fs::remove(target_, error);  // an empty folder may be in the way
  fs::rename(partial_, target_, error);
  if (error) throw_invalid("cannot rename {} to {}: {}", partial_.string(), target_.string(), error.message());
  sync_folder(target_.parent_path());
  committed_ = true;
  return total_bytes_;
}

}  // namespace comet
