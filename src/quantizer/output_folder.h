// SPDX-License-Identifier: Apache-2.0
// The quantized model on its way to disk: a sibling folder OUT.partial that becomes OUT when everything is in it.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "model/safetensors.h"

namespace comet {

class OutputFolder {
 public:
  // Locks OUT.partial (what a killed run left there is removed). Throws InvalidInput when `target` exists and is not an
  // empty folder, or another process is writing it.
  explicit OutputFolder(const std::filesystem::path& target);
  // Removes what was written unless commit() was reached.
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  void add(const std::string& name, OwnedTensor tensor);  // written out when a shard is full
  void write_file(const std::string& name, const std::string& bytes);
  // Copies tokenizer and generation files of a model folder.
  void copy_side_files(const std::filesystem::path& model);

  // Writes what is left and the index, syncs, renames. Returns the bytes of all tensors.
  size_t commit();

 private:
  void flush_shard();

  std::filesystem::path target_, partial_;
  int lock_ = -1;
  bool committed_ = false;
  std::map<std::string, OwnedTensor> pending_;
  size_t pending_bytes_ = 0, total_bytes_ = 0;
  std::vector<std::vector<std::string>> shards_;  // names of the tensors of each written shard
};

}  // namespace comet
