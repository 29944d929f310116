// SPDX-License-Identifier: Apache-2.0
// Case files of the independent NumPy model (tests/numpy_model/README.md), from the folder COMET_NUMPY_CASES or the
// kept one.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "model/safetensors.h"

namespace comet::contract {

// Values of a tensor as T; its dtype must have T's size.
template <typename T>
std::vector<T> values(const TensorView& t) {
  EXPECT_EQ(dtype_bytes(t.dtype), sizeof(T)) << to_string(t);
  std::vector<T> out(static_cast<size_t>(t.num_elements()));
  memcpy(out.data(), t.data, out.size() * sizeof(T));
  return out;
}

class CaseFile {
 public:
  explicit CaseFile(const std::string& op) : file_(Safetensors::open_file(folder() / (op + ".safetensors"))) {
    for (const auto& [name, view] : file_.tensors()) names_.insert(name.substr(0, name.find('.')));
  }

  const std::set<std::string>& names() const { return names_; }
  bool has(const std::string& name, const std::string& tensor) const { return file_.has(name + "." + tensor); }
  const TensorView& view(const std::string& name, const std::string& tensor) const {
    return file_.at(name + "." + tensor);
  }
  template <typename T>
  std::vector<T> get(const std::string& name, const std::string& tensor) const {
    return values<T>(view(name, tensor));
  }
  int integer(const std::string& name, const std::string& tensor) const { return get<int32_t>(name, tensor).at(0); }
  float number(const std::string& name, const std::string& tensor) const { return get<float>(name, tensor).at(0); }
  int dim(const std::string& name, const std::string& tensor, size_t axis) const {
    return static_cast<int>(view(name, tensor).shape.at(axis));
  }
  const Safetensors& file() const { return file_; }

 private:
  static std::filesystem::path folder() {
    if (const char* fresh = std::getenv("COMET_NUMPY_CASES")) return fresh;
    return std::filesystem::path(COMET_SOURCE_DIR) / "tests/goldens/numpy";
  }

  Safetensors file_;
  std::set<std::string> names_;
};

// Bit for bit, the sign of zero included; says where and by how much it differs.
template <typename T>
void expect_same_bits(const std::vector<T>& got, const std::vector<T>& want, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  size_t different = 0, first = 0;
  for (size_t i = 0; i < got.size(); ++i)
    if (memcmp(&got[i], &want[i], sizeof(T)) != 0 && different++ == 0) first = i;
  EXPECT_EQ(different, 0u) << what << ": first at " << first << " of " << got.size();
}

}  // namespace comet::contract
