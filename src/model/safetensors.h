// SPDX-License-Identifier: Apache-2.0
// Reading and writing safetensors: 8-byte little-endian header length, JSON header, tensor bytes. Files are untrusted.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "base/tensor.h"

namespace comet {

// All tensors of one file, or of a folder: model.safetensors, or the shards model.safetensors.index.json names.
// Views point into the mapped files and live as long as this object.
class Safetensors {
 public:
  // Throws InvalidInput that names the file and what is wrong with it.
  static Safetensors open_file(const std::filesystem::path& file);
  static Safetensors open_folder(const std::filesystem::path& folder);

  bool has(const std::string& name) const { return tensors_.contains(name); }
  // Throws InvalidInput when there is no such tensor.
  const TensorView& at(const std::string& name) const;
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  size_t total_bytes() const;

 private:
  void add_file(const std::filesystem::path& file);

  std::filesystem::path where_;
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::map<std::string, TensorView> tensors_;
};

// A tensor to be written; owns its bytes.
struct OwnedTensor {
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;
};

template <typename T>
OwnedTensor make_tensor(DType dtype, std::vector<int64_t> shape, const std::vector<T>& values) {
  OwnedTensor t{dtype, std::move(shape), {}};
  const uint8_t* p = reinterpret_cast<const uint8_t*>(values.data());
  t.bytes.assign(p, p + values.size() * sizeof(T));
  COMET_CHECK_EQ(t.bytes.size(), (TensorView{nullptr, dtype, t.shape}.bytes()));
  return t;
}

// Writes under a temporary name, syncs, renames: the file appears complete or not at all.
// Throws InvalidInput with the system's reason (disk full, no permission).
void write_safetensors(const std::filesystem::path& file, const std::map<std::string, OwnedTensor>& tensors);

// The same for any bytes.
void write_file_atomically(const std::filesystem::path& file, const std::string& bytes);

}  // namespace comet
